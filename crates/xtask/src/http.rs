//! A small HTTP/1.1 client: one keep-alive connection, one request at a time, no TLS.
//!
//! The load generator shares the machine with the server it measures, so what it spends must be little and known:
//! requests are rendered before the clock starts, and a response costs one buffer. That is the reason for not using
//! the client library that the product uses.

use std::fmt::Write;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{During, Failure};

/// A server's address and how to get in.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    authority: String,
    token: Option<String>,
}

impl Endpoint {
    /// From `http://host:port`; other forms are refused with the reason.
    pub(crate) fn parse(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let authority = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@']))
            .ok_or_else(|| Failure::new(format!("{url} is not of the form http://host:port")))?;
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        Ok(Endpoint { authority, token })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// The head of a request, with the empty line that ends it. `target` must not need any escaping.
    pub(crate) fn head(&self, method: &str, target: &str, content_type: &str, body_bytes: usize) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        if let Some(token) = &self.token {
            let _infallible = write!(head, "authorization: Bearer {token}\r\n");
        }
        if body_bytes > 0 || method != "GET" {
            let _infallible = write!(
                head,
                "content-type: {content_type}\r\ncontent-length: {body_bytes}\r\n"
            );
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// A whole request without a body.
    pub(crate) fn get(&self, target: &str) -> Vec<u8> {
        self.head("GET", target, "", 0)
    }

    /// A whole request with a JSON body.
    pub(crate) fn json(&self, method: &str, target: &str, body: &serde_json::Value) -> Vec<u8> {
        let body = body.to_string();
        let mut request = self.head(method, target, "application/json", body.len());
        request.extend_from_slice(body.as_bytes());
        request
    }
}

/// A port that was free a moment ago, for a server that cannot be asked for the one it took.
pub(crate) fn free_port() -> Result<u16, Failure> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .during("cannot find a free port")
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// Seconds after which to try again, where the answer says so.
    pub retry_after_s: Option<u64>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let stream = TcpStream::connect(&endpoint.authority).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            received: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a request, given in parts that follow each other, and reads the whole answer.
    ///
    /// After an error, or an answer that closes the connection, the connection cannot be used again.
    pub(crate) async fn exchange(&mut self, parts: &[&[u8]]) -> io::Result<Answer> {
        for part in parts {
            self.stream.write_all(part).await?;
        }
        self.received.clear();
        let (head, head_bytes) = loop {
            self.receive_more().await?;
            if let Some(head) = Head::parse(&self.received)? {
                break head;
            }
        };
        self.received.drain(..head_bytes);
        let body = match head.body {
            BodyFraming::Length(length) => {
                while self.received.len() < length {
                    self.receive_more().await?;
                }
                self.received[..length].to_vec()
            }
            BodyFraming::Chunked => self.receive_chunks().await?,
            BodyFraming::UntilClose => {
                while self.stream.read_buf(&mut self.received).await? > 0 {}
                std::mem::take(&mut self.received)
            }
        };
        Ok(Answer {
            status: head.status,
            retry_after_s: head.retry_after_s,
            body,
        })
    }

    async fn receive_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut position = 0;
        loop {
            let size_line_end = loop {
                if let Some(end) = find(&self.received[position..], b"\r\n") {
                    break position + end;
                }
                self.receive_more().await?;
            };
            let size = std::str::from_utf8(&self.received[position..size_line_end])
                .ok()
                .and_then(|line| line.split(';').next())
                .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok())
                .ok_or_else(|| invalid("bad chunk size"))?;
            let data = size_line_end + 2;
            while self.received.len() < data + size + 2 {
                self.receive_more().await?;
            }
            body.extend_from_slice(&self.received[data..data + size]);
            position = data + size + 2;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn receive_more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    retry_after_s: Option<u64>,
    body: BodyFraming,
}

#[derive(Debug, PartialEq)]
enum BodyFraming {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Head {
    /// The head and its length with the empty line, or `None` where it has not arrived whole.
    fn parse(received: &[u8]) -> io::Result<Option<(Head, usize)>> {
        let Some(end) = find(received, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&received[..end]).map_err(|_| invalid("head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .ok_or_else(|| invalid("not an HTTP/1.1 response"))?;
        let mut body = BodyFraming::UntilClose;
        let mut retry_after_s = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.trim().parse().map_err(|_| invalid("bad content-length"))?;
                body = BodyFraming::Length(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = BodyFraming::Chunked;
            } else if name.eq_ignore_ascii_case("retry-after") {
                // The other form, a date, is as good as none.
                retry_after_s = value.trim().parse().ok();
            }
        }
        if status == 204 || status == 304 {
            body = BodyFraming::Length(0);
        }
        let head = Head {
            status,
            retry_after_s,
            body,
        };
        Ok(Some((head, end + 4)))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers each request with the next of `answers`, written in pieces of `piece` bytes.
    async fn canned(answers: Vec<&'static str>, piece: usize) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            for answer in answers {
                assert!(stream.read(&mut request).await.unwrap() > 0);
                for part in answer.as_bytes().chunks(piece) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        Endpoint::parse(&format!("http://{address}"), None).unwrap()
    }

    async fn bodies(answers: Vec<&'static str>, piece: usize) -> Vec<(u16, String)> {
        let count = answers.len();
        let endpoint = canned(answers, piece).await;
        let mut connection = Connection::open(&endpoint).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..count {
            let answer = connection.exchange(&[&endpoint.get("/")]).await.unwrap();
            seen.push((answer.status, answer.text()));
        }
        seen
    }

    #[tokio::test]
    async fn every_framing_of_a_body_in_any_pieces() {
        for piece in [1, 3, 7, 4096] {
            let seen = bodies(
                vec![
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                    "HTTP/1.1 204 No Content\r\n\r\n",
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                    "HTTP/1.1 404 Not Found\r\n\r\ngone",
                ],
                piece,
            )
            .await;
            let expected = [(200, "hello"), (204, ""), (200, "abcde"), (404, "gone")];
            assert_eq!(seen, expected.map(|(status, body)| (status, body.to_owned())));
        }
    }

    #[tokio::test]
    async fn an_answer_may_say_when_to_try_again() {
        let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
        let endpoint = canned(vec![answer, "HTTP/1.1 204 No Content\r\n\r\n"], 4096).await;
        let mut connection = Connection::open(&endpoint).await.unwrap();
        let mut ask = async || connection.exchange(&[&endpoint.get("/")]).await.unwrap();
        assert_eq!(ask().await.retry_after_s, Some(2));
        assert_eq!(ask().await.retry_after_s, None);
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(
            Endpoint::parse("http://h:81/", None).unwrap().url(),
            "http://h:81"
        );
        assert_eq!(Endpoint::parse("http://h", None).unwrap().url(), "http://h:80");
        for url in ["https://h:1", "h:1", "http://", "http://h/path"] {
            assert!(Endpoint::parse(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let endpoint = Endpoint::parse("http://h:1", Some("secret".to_owned())).unwrap();
        let request = endpoint.json("POST", "/x", &serde_json::json!({"a": 1}));
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "POST /x HTTP/1.1\r\nhost: h:1\r\nauthorization: Bearer secret\r\n\
             content-type: application/json\r\ncontent-length: 7\r\n\r\n{\"a\":1}"
        );
    }
}
