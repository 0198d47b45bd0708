//! Text that is drawn again in place on a terminal.

use std::io::Write;

/// A block of lines at the end of a stream.
#[derive(Debug, Default)]
pub struct Redraw {
    drawn: usize,
}

impl Redraw {
    /// Take the block away.
    pub fn erase(&mut self, out: &mut impl Write) {
        if self.drawn > 0 {
            // Up over the block, then clear to the end of the screen.
            put(out, &format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    /// Show `text`, which ends with a line break, instead of what is there.
    pub fn draw(&mut self, out: &mut impl Write, text: &str) {
        self.erase(out);
        self.drawn = text.lines().count();
        // Without wrapping, as many rows as lines are erased next time, however narrow the terminal.
        put(out, &format!("\x1b[?7l{text}\x1b[?7h"));
        let _ = out.flush();
    }
}

/// Somebody may have closed the stream; what is drawn on it ends for no such reason.
fn put(out: &mut impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes());
}
