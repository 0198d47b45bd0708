//! Syslog messages, RFC 5424 and RFC 3164.

use super::Mismatch;
use pelton_expr::Patch;

/// Which form lines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Rfc5424,
    Rfc3164,
    /// A version behind the priority is the mark of RFC 5424.
    Auto,
}

/// RFC 5424, table 1.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
/// RFC 5424, table 2.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

#[derive(Debug)]
pub(crate) struct Syslog {
    form: Form,
    data: Patch,
    element: Patch,
}

impl Syslog {
    pub fn new(form: Form) -> Self {
        Self { form, data: Patch::default(), element: Patch::default() }
    }

    /// Which form its lines have.
    pub fn form(&self) -> Form {
        self.form
    }

    pub fn read(&mut self, line: &str, patch: &mut Patch) -> Result<(), Mismatch> {
        let mut cursor = Cursor { line, at: 0 };
        let priority = cursor.priority()?;
        let versioned = cursor.rest().starts_with(|c: char| c.is_ascii_digit() && c != '0')
            && cursor
                .rest()
                .split(' ')
                .next()
                .is_some_and(|v| v.len() <= 3 && v.bytes().all(|c| c.is_ascii_digit()));
        if let Some(priority) = priority {
            patch.text("facility", FACILITIES[usize::from(priority / 8)]);
            patch.text("severity", SEVERITIES[usize::from(priority % 8)]);
        }
        match self.form {
            Form::Rfc5424 => self.rfc5424(cursor, priority.is_some(), patch),
            Form::Auto if versioned && priority.is_some() => self.rfc5424(cursor, true, patch),
            Form::Rfc3164 | Form::Auto => rfc3164(cursor, patch),
        }
    }

    fn rfc5424(&mut self, mut cursor: Cursor<'_>, priority: bool, patch: &mut Patch) -> Result<(), Mismatch> {
        if !priority {
            return Err(Mismatch::new(0, "expected a priority such as `<34>`"));
        }
        let start = cursor.at;
        let version = cursor.word().filter(|v| !v.is_empty() && v.bytes().all(|c| c.is_ascii_digit()));
        if version.is_none() {
            return Err(Mismatch::new(start, "expected a version and a space"));
        }
        for name in ["timestamp", "hostname", "appname", "procid", "msgid"] {
            let start = cursor.at;
            match cursor.word() {
                Some("-") => {}
                Some(word) if !word.is_empty() => patch.text(name, word),
                _ => return Err(Mismatch::new(start, format!("expected {name} and a space"))),
            }
        }
        self.structured_data(&mut cursor, patch)?;
        let message = match cursor.rest() {
            "" => return Ok(()),
            rest => rest.strip_prefix(' ').ok_or_else(|| Mismatch::new(cursor.at, "expected a space"))?,
        };
        patch.text("message", message.strip_prefix('\u{feff}').unwrap_or(message));
        Ok(())
    }

    /// `-`, or elements such as `[id name="value" ...]`.
    fn structured_data(&mut self, cursor: &mut Cursor<'_>, patch: &mut Patch) -> Result<(), Mismatch> {
        if cursor.take("-") {
            return Ok(());
        }
        self.data.clear();
        while cursor.take("[") {
            let id = cursor.until(&[' ', ']']).filter(|id| !id.is_empty());
            let id = id.ok_or_else(|| Mismatch::new(cursor.at, "expected the name of structured data"))?;
            self.element.clear();
            while cursor.take(" ") {
                let name = cursor.until(&['=']).filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| Mismatch::new(cursor.at, "expected a name and `=`"))?;
                let start = cursor.at + 1;
                if !cursor.take("=\"") {
                    return Err(Mismatch::new(start, "expected a value in quotes"));
                }
                let value = cursor
                    .quoted()
                    .ok_or_else(|| Mismatch::new(start, "the value lacks its closing quote"))?;
                self.element.text(name, &value);
            }
            if !cursor.take("]") {
                return Err(Mismatch::new(cursor.at, "expected `]`"));
            }
            self.data.object(id, &self.element);
        }
        if self.data.is_empty() {
            return Err(Mismatch::new(cursor.at, "expected structured data or `-`"));
        }
        patch.object("structuredData", &self.data);
        Ok(())
    }
}

/// `Oct 11 22:14:15 host tag[pid]: message`
fn rfc3164(mut cursor: Cursor<'_>, patch: &mut Patch) -> Result<(), Mismatch> {
    const SHAPE: &[u8; 15] = b"Aaa d0 00:00:00";
    let time = cursor.rest().as_bytes().get(..SHAPE.len());
    let fits = time.is_some_and(|time| {
        time.iter().zip(SHAPE).all(|(c, shape)| match shape {
            b'A' => c.is_ascii_uppercase(),
            b'a' => c.is_ascii_lowercase(),
            b'd' => c.is_ascii_digit() || *c == b' ',
            b'0' => c.is_ascii_digit(),
            mark => c == mark,
        })
    });
    if !fits {
        return Err(Mismatch::new(cursor.at, "expected a time such as `Oct 11 22:14:15`"));
    }
    patch.text("timestamp", &cursor.rest()[..SHAPE.len()]);
    cursor.at += SHAPE.len();
    if !cursor.take(" ") {
        return Err(Mismatch::new(cursor.at, "expected a space"));
    }
    let start = cursor.at;
    match cursor.word() {
        Some(host) if !host.is_empty() => patch.text("hostname", host),
        _ => return Err(Mismatch::new(start, "expected a host name and a space")),
    }
    let rest = cursor.rest();
    // RFC 3164, 4.1.3: the tag is alphanumeric, and what is not ends it; programs write `-`, `_`, `.` and `/` as well.
    let tag =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))).unwrap_or(0);
    let (name, after) = rest.split_at(tag);
    let (pid, after) = match after.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((pid, after)) => (Some(pid), after),
        None => (None, after),
    };
    match after.strip_prefix(':').filter(|_| !name.is_empty()) {
        Some(message) => {
            patch.text("appname", name);
            pid.into_iter().for_each(|pid| patch.text("procid", pid));
            patch.text("message", message.strip_prefix(' ').unwrap_or(message));
        }
        // No tag: all of it is the message.
        None => patch.text("message", rest),
    }
    Ok(())
}

struct Cursor<'l> {
    line: &'l str,
    at: usize,
}

impl<'l> Cursor<'l> {
    fn rest(&self) -> &'l str {
        &self.line[self.at..]
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Up to one of the marks, which stays.
    fn until(&mut self, marks: &[char]) -> Option<&'l str> {
        let rest = self.rest();
        let end = rest.find(marks)?;
        self.at += end;
        Some(&rest[..end])
    }

    /// Up to the next space, which goes.
    fn word(&mut self) -> Option<&'l str> {
        let word = self.until(&[' '])?;
        self.at += 1;
        Some(word)
    }

    /// Behind an opening quote: the text up to the closing one. A backslash protects `"`, `\` and `]`.
    fn quoted(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Some(out);
                }
                '\\' => match chars.next_if(|(_, c)| matches!(c, '"' | '\\' | ']')) {
                    Some((_, c)) => out.push(c),
                    None => out.push('\\'),
                },
                c => out.push(c),
            }
        }
        None
    }

    /// `<34>`; files often have none.
    fn priority(&mut self) -> Result<Option<u8>, Mismatch> {
        let Some(rest) = self.rest().strip_prefix('<') else { return Ok(None) };
        let digits = rest.split('>').next().unwrap_or_default();
        let number = digits.parse::<u8>().ok().filter(|n| *n < 192 && digits.len() < rest.len());
        let number =
            number.ok_or_else(|| Mismatch::new(self.at, "expected a priority from `<0>` to `<191>`"))?;
        self.at += digits.len() + 2;
        Ok(Some(number))
    }
}
