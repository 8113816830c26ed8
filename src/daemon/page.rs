//! The page that the daemon serves, for a tablet beside the arm: plain files inside the program, so
//! that it works without internet. It talks to the API as every other client does.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing from elsewhere, no script or style inside the document, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($kind:literal, $file:literal) => {
        Asset {
            path: concat!("/page/", $file),
            kind: $kind,
            text: include_str!(concat!("page/", $file)),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";

#[rustfmt::skip]
const ASSETS: [Asset; 18] = [
    Asset { path: "/", kind: HTML, text: include_str!("page/index.html") },
    asset!("text/css; charset=utf-8", "style.css"),
    asset!("image/svg+xml", "icon.svg"),
    asset!("text/javascript; charset=utf-8", "estop.js"),
    asset!("text/javascript; charset=utf-8", "main.js"),
    asset!("text/javascript; charset=utf-8", "api.js"),
    asset!("text/javascript; charset=utf-8", "arm.js"),
    asset!("text/javascript; charset=utf-8", "scene.js"),
    asset!("text/javascript; charset=utf-8", "plot.js"),
    asset!("text/javascript; charset=utf-8", "goal.js"),
    asset!("text/javascript; charset=utf-8", "steer.js"),
    asset!("text/javascript; charset=utf-8", "episodes.js"),
    asset!("text/javascript; charset=utf-8", "learning.js"),
    asset!("text/javascript; charset=utf-8", "policies.js"),
    asset!("text/javascript; charset=utf-8", "roles.js"),
    asset!("text/javascript; charset=utf-8", "faults.js"),
    asset!("text/javascript; charset=utf-8", "modes.js"),
    asset!("text/javascript; charset=utf-8", "joints.js"),
];

/// The page and its files.
pub(super) fn router() -> Router {
    ASSETS
        .iter()
        .fold(Router::new(), |router, asset| router.route(asset.path, get(async || asset.answer())))
}

impl Asset {
    fn answer(&self) -> impl IntoResponse + use<> {
        let headers: [(HeaderName, &str); 5] = [
            (CONTENT_TYPE, self.kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            // Another version of the program has another page.
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.text)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, Response};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;

    use super::*;
    use crate::daemon::{document, operations};

    async fn served(path: &str) -> Response<Body> {
        let request = Request::get(path).body(Body::empty()).unwrap();
        TowerToHyperService::new(router()).call(request).await.unwrap()
    }

    fn scripts() -> String {
        ASSETS.iter().filter(|a| a.path.ends_with(".js")).map(|a| a.text).collect()
    }

    /// Every text of the page from `start` to the next of `ends`.
    fn quoted<'a>(
        text: &'a str,
        start: &'a str,
        ends: &'a [char],
    ) -> impl Iterator<Item = &'a str> {
        text.match_indices(start).filter_map(move |(at, _)| text[at..].split(ends).next())
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_and_nothing_from_elsewhere_is_allowed() {
        for asset in &ASSETS {
            let answer = served(asset.path).await;
            let header = |name: HeaderName| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(answer.status(), 200, "{}", asset.path);
            assert_eq!(header(CONTENT_TYPE), asset.kind);
            assert_eq!(header(X_CONTENT_TYPE_OPTIONS), "nosniff");
            let policy = header(CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains("  "), "{policy}");
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_there_and_none_is_far_away() {
        let known = |name: &str| ASSETS.iter().any(|asset| asset.path == name);
        let html = ASSETS[0].text;
        let named: Vec<_> = quoted(html, "/page/", &['"']).collect();
        assert!(named.len() >= 4 && named.iter().all(|name| known(name)), "{named:?}");
        let scripts = scripts();
        let imported: Vec<_> =
            scripts.split("from \".").skip(1).filter_map(|part| part.split('"').next()).collect();
        assert!(imported.len() > 10, "{imported:?}");
        assert!(imported.iter().all(|name| known(&format!("/page{name}"))), "{imported:?}");
        for asset in ASSETS.iter().filter(|asset| !asset.path.ends_with(".svg")) {
            for far in ["http:/", "https:/", "url("] {
                assert!(!asset.text.contains(far), "{}: {far}", asset.path);
            }
        }
        for inline in ["style=", "onclick=", "onload=", "javascript:", "<style"] {
            assert!(!html.contains(inline), "the policy forbids {inline}");
        }
    }

    #[test]
    fn every_operation_that_the_page_asks_for_is_one_of_the_api() {
        let operations = operations();
        let scripts = scripts();
        let mut asked = 0;
        for path in quoted(&scripts, "/v1/", &['"', '`', '?']) {
            let mut parts = path.split("${");
            let first = parts.next().unwrap().to_owned();
            let path = parts.fold(first, |path, part| {
                format!("{path}{{id}}{}", part.split_once('}').unwrap().1)
            });
            assert!(operations.iter().any(|operation| operation.path == path), "{path}");
            asked += 1;
        }
        assert!(asked >= 18, "{asked}");
    }

    #[test]
    fn every_fault_is_explained() {
        let faults = asset_text("/page/faults.js");
        let document = document();
        let names = names(&document["components"]["schemas"]["Fault"]);
        assert!(names.len() >= 11, "{names:?}");
        for fault in names {
            assert!(
                faults.contains(&format!("\n  {fault}: [")),
                "{fault}: what happened, what to do?"
            );
        }
    }

    fn asset_text(path: &str) -> &'static str {
        ASSETS.iter().find(|asset| asset.path == path).unwrap().text
    }

    /// The values of an enumeration's schema.
    fn names(schema: &Value) -> Vec<&str> {
        match schema {
            Value::Object(map) => map
                .iter()
                .flat_map(|(key, value)| match (key.as_str(), value) {
                    ("const", Value::String(name)) => vec![name.as_str()],
                    ("enum", Value::Array(names)) => {
                        names.iter().filter_map(Value::as_str).collect()
                    }
                    (_, value) => names(value),
                })
                .collect(),
            Value::Array(values) => values.iter().flat_map(names).collect(),
            _ => Vec::new(),
        }
    }
}
