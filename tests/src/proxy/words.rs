//! The proxy told what to do line by line: one line in, one line out.

use super::{ApiKey, Fault, Line, Proxy, Rule, Ticket};
use std::time::Duration;

/// What the binary says to `help`.
pub const HELP: &str = "\
arm FAULT KIND [client=PREFIX] [times=N] [skip=N] [at-most=TIME]   say `ok TICKET`; KIND: EndTxn, 26, .. or any
    FAULT: hold cut drop drop-answer cut-answer reorder reset delay=TIME;
    for Metadata name-no-broker; for ApiVersions name-no-transactions
release TICKET    deliver what is held (hold, cut)
disarm TICKET     forget a rule
status TICKET     requests met and answered
delay TIME        for every request; 0ms: none
bandwidth BYTES   a second, each connection; 0: no limit
silent on|off     half open: take all, answer nothing
refuse on|off     close new connections
reset             RST to all connections
clear             no rules, full speed
TIME is 250ms or 3s";

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A new rule.
    Arm(Rule),
    /// Deliver what a rule holds.
    Release(Ticket),
    /// Forget a rule.
    Disarm(Ticket),
    /// How often a rule met a request.
    Status(Ticket),
    /// A time for every request.
    Delay(Duration),
    /// Bytes a second.
    Bandwidth(u64),
    /// Half open or not.
    Silent(bool),
    /// Whether new connections are closed.
    Refuse(bool),
    /// RST to all.
    Reset,
    /// Nothing special any more.
    Clear,
    /// Say what can be said.
    Help,
}

impl Word {
    /// Read a line.
    ///
    /// # Errors
    /// It is none of ours; the text says why.
    pub fn parse(line: &str) -> Result<Word, String> {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        match (first, rest.as_slice()) {
            ("arm", [fault, kind, rest @ ..]) => arm(fault, kind, rest).map(Word::Arm),
            ("release", [ticket]) => number(ticket).map(|n| Word::Release(Ticket(n))),
            ("disarm", [ticket]) => number(ticket).map(|n| Word::Disarm(Ticket(n))),
            ("status", [ticket]) => number(ticket).map(|n| Word::Status(Ticket(n))),
            ("delay", [time]) => duration(time).map(Word::Delay),
            ("bandwidth", [bytes]) => number(bytes).map(Word::Bandwidth),
            ("silent", [switch]) => on(switch).map(Word::Silent),
            ("refuse", [switch]) => on(switch).map(Word::Refuse),
            ("reset", []) => Ok(Word::Reset),
            ("clear", []) => Ok(Word::Clear),
            ("help", []) => Ok(Word::Help),
            _ => Err(format!("`{}` is not understood; say `help`", line.trim())),
        }
    }

    /// Do it, and say what came of it.
    pub fn apply(self, proxy: &Proxy) -> String {
        let line = |change: &dyn Fn(&mut Line)| {
            let mut line = proxy.line();
            change(&mut line);
            proxy.set_line(line);
        };
        match self {
            Word::Arm(rule) => return format!("ok {}", proxy.arm(rule).0),
            Word::Status(ticket) => {
                let (caught, answered) = proxy.status(ticket);
                return format!("ok caught {caught} answered {answered}");
            }
            Word::Help => return HELP.to_owned(),
            Word::Release(ticket) => proxy.release(ticket),
            Word::Disarm(ticket) => proxy.disarm(ticket),
            Word::Delay(delay) => line(&|line| line.delay = delay),
            Word::Bandwidth(bytes) => line(&|line| line.bytes_per_second = bytes),
            Word::Silent(silent) => line(&|line| line.silent = silent),
            Word::Refuse(refuses) => line(&|line| line.refuses = refuses),
            Word::Reset => proxy.reset(),
            Word::Clear => proxy.clear(),
        }
        "ok".into()
    }
}

fn arm(fault: &str, kind: &str, rest: &[&str]) -> Result<Rule, String> {
    let fault = match fault {
        "hold" => Fault::Hold,
        "cut" => Fault::Cut,
        "drop" => Fault::Drop,
        "drop-answer" => Fault::DropAnswer,
        "cut-answer" => Fault::CutAnswer,
        "name-no-broker" => Fault::NameNoBroker,
        "name-no-transactions" => Fault::NameNoTransactions,
        "reorder" => Fault::Reorder,
        "reset" => Fault::Reset,
        _ => match fault.strip_prefix("delay=") {
            Some(time) => Fault::Delay(duration(time)?),
            None => return Err(format!("`{fault}` is no fault; say `help`")),
        },
    };
    let key: Option<ApiKey> = if kind == "any" { None } else { Some(kind.parse()?) };
    let mut rule = Rule { key, times: None, ..Rule::next(ApiKey::PRODUCE, fault) };
    for option in rest {
        match option.split_once('=') {
            Some(("client", prefix)) => prefix.clone_into(&mut rule.client),
            Some(("times", times)) => rule.times = Some(number(times)?),
            Some(("skip", skip)) => rule.skip = number(skip)?,
            Some(("at-most", time)) => rule.at_most = Some(duration(time)?),
            _ => return Err(format!("`{option}` is not understood; say `help`")),
        }
    }
    Ok(rule)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn on(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 250ms or 3s");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let count = digits.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do_and_a_wrong_one_is_told_so() {
        let at_most = Some(Duration::from_secs(3));
        let rule = Rule { skip: 2, at_most, ..Rule::next(ApiKey::END_TXN, Fault::Cut).of("worker") };
        assert_eq!(
            Word::parse("arm cut EndTxn client=worker times=1 skip=2 at-most=3s"),
            Ok(Word::Arm(rule))
        );
        let slow = Rule { key: None, ..Rule::every(ApiKey(0), Fault::Delay(Duration::from_millis(250))) };
        assert_eq!(Word::parse("arm delay=250ms any"), Ok(Word::Arm(slow)));
        assert_eq!(Word::parse(" release 7 "), Ok(Word::Release(Ticket(7))));
        assert_eq!(Word::parse("silent on"), Ok(Word::Silent(true)));
        for wrong in
            ["", "arm", "arm hold", "arm bend EndTxn", "release x", "delay 3", "silent maybe", "nonsense"]
        {
            assert!(Word::parse(wrong).is_err(), "{wrong}");
        }
    }
}
