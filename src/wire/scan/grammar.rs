//! The grammar (RFC 8259): each kind of value is passed over, none is kept.

use std::ops::Range;

use super::ScanError;

/// Deepest limit that can be asked for: one bit of the stack a level.
const DEEPEST: usize = 1_024;

pub(super) struct Scanner<'b> {
    body: &'b [u8],
    pub(super) at: usize,
    /// Levels still allowed.
    pub(super) limit: usize,
    pub(super) max_depth: usize,
}

/// A string that was passed.
pub(super) struct Quoted {
    /// Inside its quotes.
    pub(super) span: Range<usize>,
    pub(super) escaped: bool,
}

/// Which of the open levels are objects, a bit each.
struct Levels {
    bits: [u64; DEEPEST / 64],
    depth: usize,
}

impl Levels {
    fn push(&mut self, object: bool) {
        if let Some(word) = self.bits.get_mut(self.depth / 64) {
            let bit = 1u64 << (self.depth % 64);
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
    }

    fn in_object(&self) -> bool {
        let top = self.depth.wrapping_sub(1);
        self.bits.get(top / 64).is_some_and(|word| word & (1u64 << (top % 64)) != 0)
    }
}

impl<'b> Scanner<'b> {
    pub(super) fn new(body: &'b [u8], max_depth: usize) -> Self {
        Scanner { body, at: 0, limit: max_depth.min(DEEPEST), max_depth }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    pub(super) fn end(&mut self) -> Result<(), ScanError> {
        self.space();
        if self.at == self.body.len() { Ok(()) } else { Err(self.wanted("the end of the body")) }
    }

    pub(super) fn byte(&mut self, byte: u8, wanted: &'static str) -> Result<(), ScanError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.wanted(wanted))
        }
    }

    #[cold]
    pub(super) fn wanted(&self, wanted: &'static str) -> ScanError {
        ScanError::NotJson { at: self.at, wanted }
    }

    /// One value of any kind.
    #[inline]
    pub(super) fn value(&mut self) -> Result<(), ScanError> {
        if let Some(b'{' | b'[') = self.peek() { self.nested() } else { self.scalar() }
    }

    #[inline]
    fn scalar(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"') => self.string("a string").map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(self.wanted("a JSON value")),
        }
    }

    /// An object or an array, without recursion.
    fn nested(&mut self) -> Result<(), ScanError> {
        let mut levels = Levels { bits: [0; DEEPEST / 64], depth: 0 };
        'value: loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if levels.depth >= self.limit {
                        return Err(ScanError::TooDeep { at: self.at, limit: self.max_depth });
                    }
                    levels.push(open == b'{');
                    self.at += 1;
                    self.space();
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() == Some(close) {
                        self.at += 1;
                        levels.depth -= 1;
                    } else {
                        if open == b'{' {
                            self.member_name()?;
                        }
                        continue 'value;
                    }
                }
                _ => self.scalar()?,
            }
            // A value is complete: close levels until one goes on.
            loop {
                if levels.depth == 0 {
                    return Ok(());
                }
                self.space();
                let object = levels.in_object();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.member_name()?;
                        }
                        continue 'value;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return Err(self.wanted("a comma or a closing brace")),
                    _ => return Err(self.wanted("a comma or a closing bracket")),
                }
                self.at += 1;
                levels.depth -= 1;
            }
        }
    }

    fn member_name(&mut self) -> Result<(), ScanError> {
        self.string("a member's name in quotes")?;
        self.space();
        self.byte(b':', "a colon")?;
        self.space();
        Ok(())
    }

    #[inline]
    pub(super) fn string(&mut self, wanted: &'static str) -> Result<Quoted, ScanError> {
        self.byte(b'"', wanted)?;
        let start = self.at;
        if let Some(found) = special(self.body.get(start..).unwrap_or_default()) {
            let end = start + found;
            self.at = end;
            if self.peek() == Some(b'"') {
                self.at = end + 1;
                return Ok(Quoted { span: start..end, escaped: false });
            }
        }
        self.escaped_string(start)
    }

    /// The rest of a string that something is in that is not plain.
    #[inline(never)]
    fn escaped_string(&mut self, start: usize) -> Result<Quoted, ScanError> {
        let mut escaped = false;
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            let Some(found) = special(rest) else {
                self.at = self.body.len();
                return Err(self.wanted("a closing quote"));
            };
            self.at += found;
            match self.peek() {
                Some(b'"') => {
                    let span = start..self.at;
                    self.at += 1;
                    return Ok(Quoted { span, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                    // Where a client escapes all that is not ASCII, one follows the other.
                    while self.peek() == Some(b'\\') {
                        self.escape()?;
                    }
                }
                _ => return Err(self.wanted("an escape instead of a control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                match self.hex4()? {
                    0xdc00..=0xdfff => Err(self.wanted("the first half of a surrogate pair before its second")),
                    0xd800..=0xdbff => {
                        let pair = self.body.get(self.at..self.at + 2) == Some(b"\\u");
                        self.at += if pair { 2 } else { 0 };
                        if pair && (0xdc00..=0xdfff).contains(&self.hex4()?) {
                            Ok(())
                        } else {
                            Err(self.wanted("the second half of a surrogate pair"))
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(self.wanted("a JSON escape")),
        }
    }

    fn hex4(&mut self) -> Result<u32, ScanError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let value = |byte: &u8| HEX.get(usize::from(*byte)).copied().unwrap_or(NO_DIGIT);
        if let Some(digits) = rest.first_chunk::<4>() {
            let (n, seen) = digits.iter().map(value).fold((0, 0), |(n, seen), d| (n << 4 | u32::from(d), seen | d));
            if seen & NO_DIGIT == 0 {
                self.at += 4;
                return Ok(n);
            }
        }
        self.at += rest.iter().take_while(|byte| value(byte) != NO_DIGIT).count();
        Err(self.wanted("four hexadecimal digits"))
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.wanted("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), ScanError> {
        if self.body.get(self.at..self.at + literal.len()) == Some(literal) {
            self.at += literal.len();
            Ok(())
        } else {
            Err(self.wanted("a JSON value"))
        }
    }
}

/// Values of hexadecimal digits by their ASCII codes: clients that escape all that is not ASCII send little else.
#[expect(clippy::indexing_slicing, reason = "of a constant, in a constant: the compiler has evaluated it")]
static HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        table[digit as usize] = value as u8;
        table[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    table
};

const NO_DIGIT: u8 = 0x80;

/// The first byte of a string that is not plain: quote, backslash or control character.
///
/// Prose has an escape every few words, which a step of eight bytes finds soonest; only what goes on plain beyond
/// [`NEAR`] is worth the wider stride of [`special_far`].
#[inline]
pub(in crate::wire) fn special(rest: &[u8]) -> Option<usize> {
    match rest.split_at_checked(NEAR) {
        Some((near, far)) => special_word(near).or_else(|| special_far(far).map(|at| NEAR + at)),
        None => special_near(rest),
    }
}

const NEAR: usize = 64;

/// As [`special`], by blocks of which each is only asked whether it has such a byte.
fn special_far(rest: &[u8]) -> Option<usize> {
    let passed = plain_blocks(rest);
    special_near(rest.get(passed..)?).map(|at| passed + at)
}

/// Bytes of whole blocks, from the front, that have nothing special in them.
#[inline(never)]
fn plain_blocks(rest: &[u8]) -> usize {
    /// Long enough to be told in few steps, and short enough to be looked through again.
    const BLOCK: usize = 256;
    let special = |block: &&[u8; BLOCK]| {
        // With its second bit turned over, a quote comes right behind the control characters, and so do no others: a
        // minimum tells of both, and another one of the backslash.
        let least = |(low, back): (u8, u8), byte: &u8| (low.min(byte ^ 2), back.min(byte ^ b'\\'));
        let (low, back) = block.iter().fold((u8::MAX, u8::MAX), least);
        low <= b'"' ^ 2 || back == 0
    };
    let blocks = rest.as_chunks::<BLOCK>().0;
    blocks.iter().position(|block| special(&block)).unwrap_or(blocks.len()) * BLOCK
}

/// As [`special`], eight bytes at a time and the last few one by one.
#[inline]
fn special_near(rest: &[u8]) -> Option<usize> {
    let tail = rest.as_chunks::<8>().1;
    special_word(rest).or_else(|| {
        let at = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
        Some(rest.len() - tail.len() + at)
    })
}

/// As [`special`], in whole words of eight bytes only.
#[inline(always)]
fn special_word(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    for (index, word) in rest.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte is zero after the xor where it equals what is looked for; the high bit of `x - 1 & !x` marks zeros.
        let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
        let found = zero(word ^ (ONES * u64::from(b'"')))
            | zero(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS);
        if found != 0 {
            return Some(index * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    None
}
