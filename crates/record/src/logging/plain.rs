//! Fields of a line without colours: what the library writes, in fewer steps.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// Writes `name=value` for each field, as the library does where nothing is coloured.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainFields;

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

/// The fields of one line.
struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl<'w> Line<'w> {
    /// Writes a field by `value`, behind its name.
    fn named(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'w>) -> fmt::Result) {
        let written = || {
            if !self.is_empty {
                self.writer.write_char(' ')?;
            }
            self.writer.write_str(field.name())?;
            self.writer.write_char('=')?;
            value(&mut self.writer)
        };
        if self.result.is_ok() {
            self.result = written();
            self.is_empty = false;
        }
    }

    /// Leaves a field to the library.
    fn by_library(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), self.is_empty);
            record(&mut visitor);
            self.result = visitor.finish();
            self.is_empty = false;
        }
    }
}

/// Whether a field is written as it is named: the message has no name, and others have one of their own.
fn is_named(field: &Field) -> bool {
    let name = field.name();
    name != "message" && !name.starts_with("log.") && !name.starts_with("r#")
}

/// Whether a text stands in quotes as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if !is_named(field) || !is_plain(value) {
            return self.by_library(|visitor| visitor.record_str(field, value));
        }
        self.named(field, |writer| {
            writer.write_char('"')?;
            writer.write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.by_library(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !is_named(field) {
            return self.by_library(|visitor| visitor.record_debug(field, value));
        }
        self.named(field, |writer| write!(writer, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::format::{DefaultFields, Format};
    use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Written;

        fn make_writer(&self) -> Written {
            self.clone()
        }
    }

    /// The lines of some events.
    fn lines<F>(fields: F) -> String
    where
        F: for<'w> FormatFields<'w> + Send + Sync + 'static,
    {
        let written = Written::default();
        let subscriber = SubscriberBuilder::default()
            .event_format(Format::default().without_time())
            .with_ansi(false)
            .fmt_fields(fields)
            .with_writer(written.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let source = io::Error::other("a \u{1b}[1m\"source\"");
            tracing::info!(id = %"4Kx", text = "plain words", count = 17, is = true, "message");
            tracing::warn!(
                empty = "",
                none = None::<&str>,
                some = Some("x"),
                "of {} and \u{1b}[2m",
                "arguments"
            );
            tracing::error!(
                quoted = "a \"quote\", a \\ and an \u{e9}",
                lines = "a\nb",
                error = %source,
                negative = -1_i64,
                half = 0.5,
            );
            tracing::error!(error = &source as &(dyn Error + 'static), list = ?[1, 2], r#type = "a", "message");
            tracing::info!(message = "\u{1b}[31mnamed", "log.target" = "left out");
            tracing::info!("a message alone");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fields_are_written_as_the_library_does() {
        let written = lines(PlainFields);
        assert_eq!(written, lines(DefaultFields::new()));
        assert!(written.contains("message id=4Kx text=\"plain words\" count=17 is=true\n"), "{written}");
        assert_eq!(written.lines().count(), 6, "{written}");
    }
}
