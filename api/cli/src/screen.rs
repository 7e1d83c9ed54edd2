//! Where a verb writes: data to one stream, talk to the other, colour only where a person looks.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use clap::ValueEnum;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colour.
    #[must_use]
    pub fn plain() -> Self {
        Self { on: false }
    }

    /// Colour.
    #[must_use]
    pub fn coloured() -> Self {
        Self { on: true }
    }

    /// Colour if a terminal shows it and its user has not asked for none (`NO_COLOR`, `TERM=dumb`).
    #[must_use]
    pub fn for_terminal(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        Self { on: is_terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb") }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(self, style: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// The two streams of a process. Clones write to the same.
#[derive(Clone)]
pub struct Screen {
    data: Sink,
    talk: Sink,
    paint: Paint,
    talk_is_watched: bool,
}

impl Screen {
    /// The standard streams, with colour as the environment has it.
    #[must_use]
    pub fn standard() -> Self {
        let variable = |name| std::env::var(name).ok();
        let paint =
            Paint::for_terminal(io::stdout().is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), paint, io::stderr().is_terminal())
    }

    /// Any two streams. `talk_is_watched`: a person sees the second as it is written, so it may show progress.
    #[must_use]
    pub fn new(data: Box<dyn Write + Send>, talk: Box<dyn Write + Send>, paint: Paint, talk_is_watched: bool) -> Self {
        Self { data: Arc::new(Mutex::new(data)), talk: Arc::new(Mutex::new(talk)), paint, talk_is_watched }
    }

    /// How data is painted.
    #[must_use]
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Somebody watches the talk.
    #[must_use]
    pub fn talk_is_watched(&self) -> bool {
        self.talk_is_watched
    }

    /// Writes what was asked for. A reader that has gone away (`| head`) is no failure.
    pub fn data(&self, text: &str) {
        put(&self.data, text);
    }

    /// Writes what is not data: progress, warnings, errors.
    pub fn talk(&self, text: &str) {
        put(&self.talk, text);
    }
}

fn put(sink: &Sink, text: &str) {
    let mut sink = sink.lock().expect("nobody panics while holding it");
    let written = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    // There is nobody left to tell.
    drop(written);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A stream that is read afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).expect("verbs write UTF-8")
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A screen without colour, its data and its talk.
    pub(crate) fn kept() -> (Screen, Kept, Kept) {
        let (data, talk) = (Kept::default(), Kept::default());
        (Screen::new(Box::new(data.clone()), Box::new(talk.clone()), Paint::plain(), false), data, talk)
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        for (is_terminal, no_color, term, on) in [
            (true, None, Some("xterm"), true),
            (true, None, None, true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), Some("xterm"), false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            assert_eq!(Paint::for_terminal(is_terminal, no_color, term), Paint { on }, "{is_terminal} {no_color:?} {term:?}");
        }
    }
}
