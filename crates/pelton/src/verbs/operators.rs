//! `pelton operators`: what operators this binary has, and the page of one.

use crate::{
    cli::{Format, OperatorsArgs, OperatorsCommand},
    components,
    exit::{Exit, Failure},
    output, page,
};
use pelton_sdk::{OperatorFactory, Registry};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal},
    path::Path,
};

/// `pelton operators`
pub fn operators(args: &OperatorsArgs) -> Result<(), Failure> {
    let registry = components::for_checks(Path::new("."), None)?;
    match &args.command {
        None => list(&registry, args.output),
        Some(OperatorsCommand::Show { name }) => show(&registry, name, args.output),
    }
}

fn list(registry: &Registry, format: Format) -> Result<(), Failure> {
    let all = registry.operators();
    match format {
        Format::Json | Format::Yaml => {
            let all = all.map(|f| json!({ "name": f.name(), "summary": f.summary() })).collect();
            output::value(&Value::Array(all), format)
        }
        Format::Table | Format::Wide => {
            let rows = all.map(|f| vec![f.name().to_owned(), f.summary().to_owned()]).collect();
            output::table(&["NAME", "WHAT IT DOES"], rows);
            Ok(())
        }
    }
}

fn show(registry: &Registry, name: &str, format: Format) -> Result<(), Failure> {
    let Some(factory) = registry.find_operator(name) else {
        let names: Vec<_> = registry.operators().map(|f| f.name()).collect();
        let hint = match pelton_sdk::nearest(name, names.iter().copied()) {
            Some(near) => format!(": did you mean `{near}`?"),
            None => format!("; there are {}", names.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, format!("there is no operator `{name}`{hint}")));
    };
    match format {
        Format::Json | Format::Yaml => output::value(&everything(&**factory), format),
        Format::Table | Format::Wide if io::stdout().is_terminal() => {
            output::print(page::render(factory.help()).trim_end());
            Ok(())
        }
        Format::Table | Format::Wide => {
            output::print(factory.help().trim_end());
            Ok(())
        }
    }
}

fn everything(factory: &dyn OperatorFactory) -> Value {
    json!({
        "name": factory.name(),
        "summary": factory.summary(),
        "schema": factory.schema(),
        "help": factory.help(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::BuildContext;
    use std::collections::BTreeSet;

    /// Names of the members that a schema knows, however deep; conditions that only require members name none.
    fn members(schema: &Value, found: &mut BTreeSet<String>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            found.extend(properties.keys().cloned());
        }
        match schema {
            Value::Object(inner) => inner.values().for_each(|inner| members(inner, found)),
            Value::Array(inner) => inner.iter().for_each(|inner| members(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn the_page_of_an_operator_has_every_option_in_its_table() {
        for factory in components::for_checks(Path::new("."), None).unwrap().operators() {
            let page = factory.help();
            let title = page.lines().next().unwrap_or_default();
            assert!(title.contains(factory.name()), "`{title}` is no title for `{}`", factory.name());
            let rows = page.lines().filter(|line| line.starts_with("| "));
            // What stands in back-quotes, word by word: `retry.initial` names two members.
            let code = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
            let words: BTreeSet<&str> =
                code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric())).collect();
            let mut names = BTreeSet::new();
            members(&serde_json::to_value(factory.schema()).unwrap(), &mut names);
            for name in names {
                assert!(words.contains(&*name), "the table of `{}` lacks `{name}`", factory.name());
            }
        }
    }

    /// Examples are what stands below `spec:`, without the source.
    fn definition(example: &str) -> String {
        let head = "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: { name: example }\nspec:\n";
        let source = match example.contains("sources:") {
            true => "",
            false => "  sources: { in: { generator: { count: 1 }, decode: json } }\n",
        };
        let sinks = match example.contains("sinks:") {
            true => "",
            false => "  sinks: { out: { blackhole: {} } }\n",
        };
        let body: String = example.lines().map(|line| format!("  {line}\n")).collect();
        format!("{head}{source}{sinks}{body}")
    }

    #[test]
    fn the_examples_of_every_page_are_valid_definitions() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
        let registry = components::for_checks(&models, None).unwrap();
        let context = BuildContext::detached(models);
        for factory in registry.operators() {
            let name = factory.name();
            let examples: Vec<_> = page::examples(factory.help()).collect();
            assert!(!examples.is_empty(), "the page of `{name}` has no example");
            for example in examples {
                let text = definition(example);
                let parsed = pelton_config::parse(name, &text, &registry, &context, &|_| None);
                parsed.unwrap_or_else(|report| panic!("{}\n{text}", report.render(&text)));
                assert!(example.contains(&format!("{name}:")), "an example of `{name}` does not use it");
            }
        }
    }
}
