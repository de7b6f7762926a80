//! How a request on HTTP/1 is framed, judged more strictly than Pingora does: whatever somebody in front of this gateway may
//! have read in another way is refused, and the connection closed, so that no two disagree on where a request ends.
//!
//! RFC 9112: a line ends in CRLF (section 2.2; a bare LF MAY be taken for one, and is not here); with both
//! `Transfer-Encoding` and `Content-Length` a request may be an attempt at smuggling (6.1, 6.3); a coding that is not known cannot be
//! taken off (6.1); a request of HTTP/1.1 has one `Host` (3.2).

use http::{HeaderMap, Version, header};
use memchr::memchr_iter;

/// What is wrong with the head of a request, as it came and as it was read; nothing where it is well framed.
pub fn wrong(raw: &[u8], headers: &HeaderMap, version: Version) -> Option<&'static str> {
    let bare = |at: usize| at.checked_sub(1).and_then(|before| raw.get(before)) != Some(&b'\r');
    if memchr_iter(b'\n', raw).any(bare) {
        return Some("a line of its head ends in a bare line feed");
    }
    if version == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Some("it has no `Host`");
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Some("its `Transfer-Encoding` is another than `chunked`");
        }
        // Pingora takes the length out of what it read.
        let stated = b"content-length";
        let says = |line: &[u8]| line.get(..stated.len()).is_some_and(|name| name.eq_ignore_ascii_case(stated));
        if raw.split(|byte| *byte == b'\n').any(says) {
            return Some("it has both `Transfer-Encoding` and `Content-Length`");
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || length.is_some_and(|length| length.as_bytes().contains(&b',')) {
        return Some("it has several lengths");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for line in head.lines().skip(1) {
            if let Some((name, value)) = line.trim_end().split_once(':') {
                headers.append(header::HeaderName::try_from(name).unwrap(), value.trim().parse().unwrap());
            }
        }
        let version = if head.contains("HTTP/1.1") { Version::HTTP_11 } else { Version::HTTP_10 };
        wrong(head.as_bytes(), &headers, version)
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_named() {
        const LINE: &str = "POST / HTTP/1.1\r\nhost: x\r\n";
        for (more, named) in [
            ("content-length: 5\r\n\r\n", None),
            ("transfer-encoding: chunked\r\n\r\n", None),
            ("Transfer-Encoding: \tChunked \r\n\r\n", None),
            ("x-content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", None),
            ("content-length: 5\n\r\n", Some("a line of its head ends in a bare line feed")),
            ("content-length: 5\r\n\n", Some("a line of its head ends in a bare line feed")),
            ("transfer-encoding: identity, chunked\r\n\r\n", Some("its `Transfer-Encoding` is another than `chunked`")),
            ("transfer-encoding: gzip\r\n\r\n", Some("its `Transfer-Encoding` is another than `chunked`")),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                Some("its `Transfer-Encoding` is another than `chunked`"),
            ),
            (
                "Content-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                Some("it has both `Transfer-Encoding` and `Content-Length`"),
            ),
            ("content-length: 5\r\ncontent-length: 5\r\n\r\n", Some("it has several lengths")),
            ("content-length: 5, 5\r\n\r\n", Some("it has several lengths")),
        ] {
            assert_eq!(judged(&format!("{LINE}{more}")), named, "{more:?}");
        }
        assert_eq!(judged("GET / HTTP/1.1\r\n\r\n"), Some("it has no `Host`"));
        assert_eq!(judged("GET / HTTP/1.0\r\n\r\n"), None, "which knows of no hosts");
    }
}
