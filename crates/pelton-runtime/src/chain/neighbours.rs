//! Which operators find members of records for each other.

use crate::plan::{Input, OperatorPlan};
use pelton_types::fields::SharedFields;
use std::sync::Arc;

/// Names that one group looks for at most: each member of a record is compared with all of them.
const MOST_NAMES: usize = 16;

/// For each operator what it shares with its neighbours. `members` are the names each operator looks for; one that looks
/// for none takes no part, and so does one that has no neighbour that does.
pub(super) fn plan(operators: &[OperatorPlan], members: &[&[String]]) -> Vec<Option<SharedFields>> {
    let takes_part = |index: usize| members.get(index).is_some_and(|names| !names.is_empty());
    let edges: Vec<(usize, usize)> = operators
        .iter()
        .enumerate()
        .flat_map(|(to, operator)| operator.inputs.iter().map(move |input| (input, to)))
        .filter_map(|(input, to)| match *input {
            Input::Operator { index, .. } => Some((index, to)),
            Input::Source(_) => None,
        })
        .filter(|&(from, to)| takes_part(from) && takes_part(to))
        .collect();
    // An operator's group is named by its first one. Chains are short, so names are simply replaced.
    let mut groups: Vec<usize> = (0..operators.len()).collect();
    for &(from, to) in &edges {
        let (one, other) = (groups[from].min(groups[to]), groups[from].max(groups[to]));
        groups.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
    }
    let names: Vec<Option<Arc<[String]>>> =
        (0..operators.len()).map(|group| names_of(group, &groups, members)).collect();
    let in_a_group = |index: usize| edges.iter().any(|&(from, to)| from == index || to == index);
    (0..operators.len())
        .map(|index| {
            let names = names[groups[index]].clone().filter(|_| in_a_group(index))?;
            Some(SharedFields { names, last: !edges.iter().any(|&(from, _)| from == index) })
        })
        .collect()
}

/// The names of a group, each once; `None` when there are too many.
fn names_of(group: usize, groups: &[usize], members: &[&[String]]) -> Option<Arc<[String]>> {
    let mut names: Vec<String> = Vec::new();
    for (_, looks_for) in groups.iter().zip(members).filter(|(of, _)| **of == group) {
        for name in *looks_for {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    (names.len() <= MOST_NAMES).then(|| names.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn operator(inputs: &[usize]) -> OperatorPlan {
        let inputs = inputs.iter().map(|&index| Input::Operator { index, port: 0 }).collect();
        OperatorPlan { name: String::new(), kind: String::new(), options: Value::Null, inputs }
    }

    /// Operators as (inputs, names): for each the names it shares and whether it is the last.
    fn planned(operators: &[(&[usize], &str)]) -> Vec<Option<(String, bool)>> {
        let plans: Vec<_> = operators.iter().map(|(inputs, _)| operator(inputs)).collect();
        let names: Vec<Vec<String>> =
            operators.iter().map(|(_, n)| n.split_whitespace().map(str::to_owned).collect()).collect();
        let members: Vec<&[String]> = names.iter().map(Vec::as_slice).collect();
        let shared = plan(&plans, &members);
        shared.into_iter().map(|s| s.map(|s| (s.names.join(" "), s.last))).collect()
    }

    fn shares(names: &str, last: bool) -> Option<(String, bool)> {
        Some((names.to_owned(), last))
    }

    #[test]
    fn neighbours_look_for_the_names_of_all() {
        let all = planned(&[(&[], "a"), (&[0], "b a"), (&[1], "c")]);
        assert_eq!(all, [shares("a b c", false), shares("a b c", false), shares("a b c", true)]);
    }

    #[test]
    fn an_operator_alone_shares_nothing() {
        assert_eq!(planned(&[(&[], "a")]), [None]);
        assert_eq!(planned(&[(&[], "a"), (&[], "a")]), [None, None]);
    }

    #[test]
    fn an_operator_that_looks_for_nothing_parts_its_neighbours() {
        let all = planned(&[(&[], "a"), (&[0], "b"), (&[1], ""), (&[2], "c"), (&[3], "d")]);
        let ab = |last| shares("a b", last);
        let cd = |last| shares("c d", last);
        assert_eq!(all, [ab(false), ab(true), None, cd(false), cd(true)]);
    }

    #[test]
    fn a_fork_and_its_branches_are_one_group() {
        let all = planned(&[(&[], "a"), (&[0], "b"), (&[0], "c"), (&[1, 2], "d")]);
        let abcd = |last| shares("a b c d", last);
        assert_eq!(all, [abcd(false), abcd(false), abcd(false), abcd(true)]);
    }

    #[test]
    fn too_many_names_are_not_shared() {
        let many: String = (0..=MOST_NAMES).map(|n| format!("m{n} ")).collect();
        assert_eq!(planned(&[(&[], "a"), (&[0], &many)]), [None, None]);
    }
}
