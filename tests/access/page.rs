//! The page's port: one visit a link, and no other page in the same browser.

use std::net::SocketAddr;

use crate::rig::{Rig, connect, exchange, status};

struct Browser {
    port: u16,
    cookie: String,
}

impl Browser {
    /// Opens the link.
    fn open(rig: &Rig) -> (Self, String) {
        let link = rig.access.page_link().unwrap();
        let rest = link.strip_prefix("http://127.0.0.1:").unwrap();
        let (port, path) = rest.split_once('/').unwrap();
        let browser = Self { port: port.parse().unwrap(), cookie: String::new() };
        let answer = browser.ask("GET", &format!("/{path}"), "");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
        assert!(status(&answer) == 303 && answer.contains("location: /\r\n"), "{answer}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        (Self { cookie, ..browser }, path.to_owned())
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        self.ask_as(method, path, &format!("host: 127.0.0.1:{}\r\n{headers}", self.port))
    }

    fn ask_as(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
        let cookie = &self.cookie;
        let cookie =
            if cookie.is_empty() { String::new() } else { format!("cookie: a=b; {cookie}\r\n") };
        exchange(&mut stream, &format!("{method} {path} HTTP/1.1\r\n{headers}{cookie}\r\n"))
    }
}

#[test]
fn a_link_opens_the_page_once_and_its_cookie_from_then_on() {
    let rig = Rig::new();
    let (browser, link) = Browser::open(&rig);
    assert_eq!(status(&browser.ask("GET", "/v1/status", "")), 200);
    let origin = format!("origin: http://127.0.0.1:{}\r\n", browser.port);
    assert_eq!(status(&browser.ask("POST", "/v1/estop", &origin)), 200);
    assert_eq!(rig.stub.told.lock().unwrap().len(), 1);
    let second = Browser { cookie: String::new(), ..browser };
    assert_eq!(status(&second.ask("GET", &format!("/{link}"), "")), 401);
    assert_eq!(status(&second.ask("GET", "/v1/status", "")), 401);
    assert_eq!(status(&browser.ask("GET", "/v1/keys", "")), 403, "the page says not who may what");
}

#[test]
fn other_pages_and_other_names_of_this_computer_are_refused() {
    let rig = Rig::new();
    let (browser, _) = Browser::open(&rig);
    let port = browser.port;
    let here = format!("host: 127.0.0.1:{port}\r\n");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, path, headers) in [
        ("GET", "/v1/status", format!("host: evil.example:{port}\r\n")),
        ("GET", "/v1/status", "host: 127.0.0.1\r\n".into()),
        ("GET", "/v1/status", format!("{here}{here}")),
        ("GET", "/v1/status", format!("{here}origin: http://evil.example\r\n")),
        ("GET", "/v1/status", format!("{here}origin: null\r\n")),
        ("POST", "/v1/estop", here.clone()),
        ("POST", "/v1/arm", format!("{here}origin: http://127.0.0.1:1\r\n")),
        ("POST", "/v1/arm", format!("{here}origin: https://127.0.0.1:{port}\r\n")),
        ("POST", "/v1/arm", format!("{here}origin: http://localhost:{port}\r\n")),
        ("GET", "/v1/stream", format!("{here}{upgrade}")),
    ] {
        let answer = browser.ask_as(method, path, &headers);
        assert!(matches!(status(&answer), 400 | 403), "{method} {path} {headers}: {answer}");
    }
    assert!(rig.stub.told.lock().unwrap().is_empty());
}
