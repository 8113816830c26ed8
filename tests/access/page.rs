//! The page, on its port and over TLS: one visit a link, and no other page in the same browser.

use std::net::SocketAddr;
use std::time::Duration;

use regoal::daemon::{Code, Role};
use rustls::version::TLS13;

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

/// A browser on another computer.
struct Tablet<'a> {
    rig: &'a Rig,
    cookie: String,
}

impl<'a> Tablet<'a> {
    /// Opens the link that was shown.
    fn open(rig: &'a Rig, name: &str, role: Role, expires_s: Option<u64>) -> (Self, String) {
        let link = rig.invite(name, role, expires_s).page;
        let path = link.strip_prefix(&format!("https://{}", rig.at)).unwrap().to_owned();
        let mut tablet = Self { rig, cookie: String::new() };
        let answer = tablet.ask("GET", &path, "");
        assert!(status(&answer) == 303 && answer.contains("location: /\r\n"), "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let (kept, how) = cookie.split_once("; ").unwrap();
        let age = expires_s.unwrap_or(400 * 86_400);
        assert_eq!(how, format!("Max-Age={age}; Secure; HttpOnly; SameSite=Strict; Path=/"));
        assert!(kept.starts_with(&format!("__Host-regoal-{}=", rig.at.port())), "{kept}");
        tablet.cookie = format!("cookie: a=b; {kept}\r\n");
        (tablet, path)
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let (at, cookie) = (self.rig.at, &self.cookie);
        self.rig.ask(&format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\n{headers}{cookie}\r\n"))
    }
}

#[test]
fn a_browser_elsewhere_gets_a_key_of_its_own_by_a_link_that_opens_once() {
    let rig = Rig::new();
    let (tablet, link) = Tablet::open(&rig, "tablet", Role::Goal, None);
    assert_eq!(status(&tablet.ask("GET", "/", "")), 200);
    assert_eq!(status(&tablet.ask("GET", "/page/main.js", "")), 200);
    let origin = format!("origin: https://{}\r\n", rig.at);
    assert_eq!(status(&tablet.ask("POST", "/v1/estop", &origin)), 200);
    assert_eq!(status(&tablet.ask("POST", "/v1/arm", &origin)), 200);
    assert_eq!(rig.stub.told.lock().unwrap().len(), 2);
    assert_eq!(status(&tablet.ask("GET", "/v1/keys", "")), 403, "its role is goal");
    let stranger = Tablet { rig: &rig, cookie: String::new() };
    for path in ["/", "/page/main.js", &link, "/?pair=00000-00000", "/?pair=", "/v1/status"] {
        assert_eq!(status(&stranger.ask("GET", path, "")), 401, "{path}");
    }
    // It stands among the keys, and is taken back as every other.
    let keys = rig.owner().keys().unwrap();
    assert!(keys.iter().any(|key| key.name == "tablet" && key.role == Role::Goal), "{keys:?}");
    rig.owner().revoke("tablet").unwrap();
    assert_eq!(status(&tablet.ask("GET", "/v1/status", "")), 401);

    let (guest, _) = Tablet::open(&rig, "guest", Role::Observe, Some(60));
    assert_eq!(status(&guest.ask("POST", "/v1/arm", &origin)), 403);
    assert_eq!(status(&guest.ask("GET", "/v1/status", "")), 200);
    rig.clock.advance(Duration::from_secs(61));
    assert_eq!(status(&guest.ask("GET", "/v1/status", "")), 401, "its time is over");
}

#[test]
fn a_code_in_a_link_counts_as_a_try_like_every_other() {
    let rig = Rig::new();
    let code = rig.invite("tablet", Role::Goal, None).code;
    let stranger = Tablet { rig: &rig, cookie: String::new() };
    for _ in 0..3 {
        assert_eq!(status(&stranger.ask("GET", "/?pair=00000-00000", "")), 401);
    }
    assert_eq!(status(&stranger.ask("GET", &format!("/?pair={code}"), "")), 401);
    let paired = regoal::daemon::pair(&rig.at.to_string(), &code, None);
    let Err(regoal::daemon::ClientError::Refused(reply)) = paired else { panic!("{paired:?}") };
    assert_eq!(reply.code, Code::Unauthorized);
    assert!(rig.access.keys().is_empty());
}

#[test]
fn another_page_in_a_browser_elsewhere_can_do_nothing_with_its_key() {
    let rig = Rig::new();
    let (tablet, _) = Tablet::open(&rig, "tablet", Role::Goal, None);
    let at = rig.at;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let far = "origin: https://evil.example\r\n";
    for (method, path, headers) in [
        ("POST", "/v1/estop", String::new()),
        ("POST", "/v1/arm", far.into()),
        ("POST", "/v1/arm", format!("origin: http://{at}\r\n")),
        ("POST", "/v1/arm", "origin: null\r\n".into()),
        ("GET", "/v1/status", far.into()),
        ("GET", "/v1/stream", upgrade.into()),
        ("GET", "/v1/stream", format!("{upgrade}{far}")),
    ] {
        let answer = tablet.ask(method, path, &headers);
        assert_eq!(status(&answer), 403, "{method} {path} {headers}: {answer}");
    }
    // A cookie is for the host that it was given by; a key in a header needs no page.
    let moved = tablet.cookie.replace(&format!("-{}=", at.port()), "-1=");
    let request = format!("GET /v1/status HTTP/1.1\r\nhost: {at}\r\n{moved}\r\n");
    assert_eq!(status(&exchange(&mut rig.tls(&TLS13), &request)), 401);
    let headers = format!("authorization: Bearer {}\r\n", "0".repeat(64));
    assert_eq!(status(&tablet.ask("GET", "/v1/status", &headers)), 401, "the header counts");
    assert!(rig.stub.told.lock().unwrap().is_empty());
}
