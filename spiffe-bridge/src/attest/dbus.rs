//! Messages of D-Bus in bytes, as much as two questions to systemd need: a call out, an answer in. D-Bus Specification
//! 0.43, little-endian: the bus passes a message on in its sender's order, and that sender is on this machine.
//!
//! Not a library's: docs/decisions/0013-d-bus.md.

/// The longest message that is read; the answers have some hundred bytes.
const MOST_BYTES: usize = 64 << 10;
/// What each message begins with: order, kind, flags, version, the body's length, a serial, the fields' length.
pub const FIXED: usize = 16;

// "Message Types" and "Header Fields".
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What is called.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The bus name of who is asked.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface that `member` is of.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// What the method is given.
    pub arguments: Arguments<'a>,
}

/// What a method is given: no more than ours need.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    /// Nothing.
    None,
    /// A number.
    Number(u32),
    /// Two texts.
    Texts(&'a str, &'a str),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The call's answer: the text that it begins with, if it begins with one (also in a variant, or an object's path).
    Text(Option<String>),
    /// An error, by name.
    Refused(String),
    /// Another message: a signal, or an answer to another call.
    Other,
}

impl Call<'_> {
    /// The message, with `serial` to know its answer by. "Message Format".
    #[must_use]
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let (signature, body) = self.arguments.encode();
        let fields = [
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
            (DESTINATION, "s", self.destination),
            (SIGNATURE, "g", signature),
        ];
        // The array of fields begins at a multiple of eight: offsets in it are those of the message.
        let mut array = Writer::default();
        for (code, kind, value) in fields {
            if code == SIGNATURE && value.is_empty() {
                continue;
            }
            array.pad(8);
            array.0.push(code);
            array.signature(kind);
            if kind == "g" { array.signature(value) } else { array.text(value) }
        }
        let mut whole = Writer(vec![b'l', METHOD_CALL, 0, 1]);
        whole.length(body.len());
        whole.0.extend_from_slice(&serial.to_le_bytes());
        whole.length(array.0.len());
        whole.0.extend_from_slice(&array.0);
        whole.pad(8);
        whole.0.extend_from_slice(&body);
        whole.0
    }
}

impl Arguments<'_> {
    fn encode(self) -> (&'static str, Vec<u8>) {
        let mut body = Writer::default();
        match self {
            Self::None => ("", body.0),
            Self::Number(number) => ("u", number.to_le_bytes().to_vec()),
            Self::Texts(one, two) => {
                body.text(one);
                body.text(two);
                ("ss", body.0)
            }
        }
    }
}

/// How many bytes follow the fixed ones of a message; `None` if it is not in this form, or too long.
#[must_use]
pub fn rest(fixed: [u8; FIXED]) -> Option<usize> {
    let (_, fields, body) = lengths(fixed)?;
    fields.checked_next_multiple_of(8)?.checked_add(body).filter(|rest| *rest <= MOST_BYTES)
}

/// Reads a message that is whole: `fixed`, and the [`rest`] of it. `serial` is that of the call whose answer is waited
/// for. `None` if it is not in the form of D-Bus.
#[must_use]
pub fn answer(fixed: [u8; FIXED], rest: &[u8], serial: u32) -> Option<Answer> {
    let (kind, fields, body) = lengths(fixed)?;
    let header = Header::parse(rest.get(..fields)?)?;
    let start = fields.checked_next_multiple_of(8)?;
    let body = rest.get(start..start.checked_add(body)?)?;
    if header.reply_serial != Some(serial) {
        return Some(Answer::Other);
    }
    match kind {
        METHOD_RETURN => Some(Answer::Text(text(&header.signature, body)?)),
        ERROR => Some(Answer::Refused(header.error_name?)),
        _ => Some(Answer::Other),
    }
}

/// Kind, length of the fields, length of the body.
fn lengths([order, kind, _flags, version, rest @ ..]: [u8; FIXED]) -> Option<(u8, usize, usize)> {
    let [a, b, c, d, _, _, _, _, i, j, k, l] = rest;
    let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).ok();
    (order == b'l' && version == 1).then_some(())?;
    Some((kind, number([i, j, k, l])?, number([a, b, c, d])?))
}

/// The text that a body with `signature` begins with: outer `None` if it is broken, inner if it begins with none.
fn text(signature: &str, body: &[u8]) -> Option<Option<String>> {
    let mut reader = Reader::new(body);
    let first = match signature.chars().next() {
        Some('v') => reader.signature()?,
        _ => signature.get(..1).unwrap_or_default().to_owned(),
    };
    match first.as_str() {
        "s" | "o" => reader.text().map(Some),
        _ => Some(None),
    }
}

/// What of an answer's header matters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    reply_serial: Option<u32>,
    error_name: Option<String>,
    signature: String,
}

impl Header {
    fn parse(fields: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(fields);
        let mut header = Self::default();
        while !reader.is_empty() {
            reader.pad(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (REPLY_SERIAL, "u") => header.reply_serial = Some(reader.number()?),
                (ERROR_NAME, "s") => header.error_name = Some(reader.text()?),
                (SIGNATURE, "g") => header.signature = reader.signature()?,
                (_, "u") => drop(reader.number()?),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        Some(header)
    }
}

#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn pad(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn length(&mut self, length: usize) {
        self.pad(4);
        self.0.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// At most 255 bytes; ours have two.
    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }
}

/// Reads from the start of `all`, which stands at a multiple of eight in its message.
struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.all.len()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.all.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn pad(&mut self, to: usize) -> Option<()> {
        let padding = self.at.checked_next_multiple_of(to)? - self.at;
        self.take(padding).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.pad(4)?;
        self.take(4)?.try_into().map(u32::from_le_bytes).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    /// Text and the zero byte that ends it.
    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests;
