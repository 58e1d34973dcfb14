//! The OWASP API top 10 of 2023, one test for each item that has none elsewhere: 1 and 5 are in `matrix`, 4 and 6 in
//! `limits`.

use futures::FutureExt;
use k8s_openapi::api::networking::v1::Ingress;
use kinora_storage::{PutOptions, Store, UploadId, keys};
use reqwest::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{Replica, STREAM, Stage, id_of, problem, secret, video};

/// Every route with a method that it knows.
const ROUTES: [(&str, &str); 11] = [
    ("POST", "/v1/uploads"),
    ("PUT", "/v1/uploads"),
    ("HEAD", "/v1/uploads/{id}"),
    ("PATCH", "/v1/uploads/{id}"),
    ("DELETE", "/v1/uploads/{id}"),
    ("POST", "/v1/uploads/{id}/token"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/videos"),
    ("GET", "/v1/videos/{id}"),
    ("DELETE", "/v1/videos/{id}"),
    ("POST", "/v1/videos/{id}/erase"),
];

async fn created(stage: &Stage, replica: &Replica) -> String {
    id_of(&stage.create(replica, "phone", 5000).await)
}

/// Base64 without padding, as JWTs have it.
fn b64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// What proves nothing opens nothing, wherever it stands. The table of JWTs is in `auth::oidc`.
/// covers: S9, S18
#[tokio::test]
async fn owasp_api2_nothing_but_a_whole_credential_in_its_header_lets_anybody_in() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = created(&stage, &replica).await;
    let good = secret("phone");
    let claims = b64(r#"{"iss":"apikey","sub":"phone","aud":"kinora-upload","exp":99999999999}"#);
    let unsigned = format!("{}.{claims}.", b64(r#"{"alg":"none","typ":"JWT"}"#));
    let headers = [
        ("nothing", "x-nothing", String::new()),
        ("an empty token", "authorization", "Bearer ".into()),
        ("another scheme", "authorization", format!("Basic {good}")),
        ("no scheme", "authorization", good.clone()),
        ("the id of a key", "authorization", "Bearer phone".into()),
        ("an empty secret", "authorization", "Bearer phone.".into()),
        (
            "half of a secret",
            "authorization",
            format!("Bearer {}", &good[..good.len() - 1]),
        ),
        (
            "a key that is not there",
            "authorization",
            good.replace("phone", "Bearer nobody"),
        ),
        (
            "an unsigned token",
            "authorization",
            format!("Bearer {unsigned}"),
        ),
        (
            "an unsigned upload token",
            "authorization",
            format!("Bearer kut_{unsigned}"),
        ),
        (
            "a cookie",
            "cookie",
            format!("token={good}; Authorization=Bearer {good}"),
        ),
        ("a proxy's word", "x-forwarded-user", "phone".into()),
        ("a key in a header of others", "x-api-key", good.clone()),
    ];
    for (name, header, value) in headers {
        for (method, path) in ROUTES {
            let path = format!("{}?access_token={good}", path.replace("{id}", &id));
            let request = stage
                .ask(&replica, None, method, &path)
                .header(header, &value);
            let request = request.header("Content-Type", "application/json");
            let answer = request.body("{}").send().await.unwrap();
            assert_eq!(answer.status(), 401, "{name}: {method} {path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{name}");
        }
    }
}

/// Who owns a video, where it stands and what it is called are the server's to say; members that nobody may set are
/// refused by their name, and no answer has more than the document says.
/// covers: S14, S18
#[tokio::test]
async fn owasp_api3_nobody_sets_or_sees_a_property_that_is_not_theirs() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let phone = secret("phone");
    for (path, body, name) in [
        (
            "/v1/batches",
            r#"{"items":[{"length":9,"owner":"stranger"}]}"#,
            "owner",
        ),
        (
            "/v1/batches",
            r#"{"items":[{"length":9,"id":"a-01arz3ndektsv4rrffq69g5fav"}]}"#,
            "id",
        ),
        ("/v1/batches", r#"{"items":[],"tenant":"rival"}"#, "tenant"),
        (
            "/v1/videos/{id}/erase",
            r#"{"reason":"asked","policy":"allow"}"#,
            "policy",
        ),
    ] {
        let id = created(&stage, &replica).await;
        let who = if path.contains("erase") {
            secret("rival")
        } else {
            phone.clone()
        };
        let request = stage.ask(&replica, Some(&who), "POST", &path.replace("{id}", &id));
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        let (status, _, problem) = problem(request.send().await.unwrap()).await;
        assert_eq!(status, 400, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(name),
            "{problem}"
        );
    }
    // Metadata is data: `owner c3RyYW5nZXI=, tenant …, id …, state …` name nothing.
    let metadata = "owner c3RyYW5nZXI=,tenant cml2YWw=,id YS0w,state c3VjY2VlZGVk,pool cml2YWw=";
    let request = stage.ask(&replica, Some(&phone), "POST", "/v1/uploads");
    let request = request
        .header("Upload-Length", "5000")
        .header("Upload-Metadata", metadata);
    let id = id_of(&request.send().await.unwrap());
    let path = format!("/v1/videos/{id}");
    for (who, want) in [("phone", 200), ("stranger", 404), ("rival", 404)] {
        let answer = stage
            .ask(&replica, Some(&secret(who)), "GET", &path)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), want, "{who}");
        if want == 200 {
            let video: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(
                (video["id"].as_str(), video["state"].as_str()),
                (Some(&*id), Some("uploading"))
            );
            let document: serde_json::Value =
                serde_json::from_str(&kinora_uploader::http::openapi::json()).unwrap();
            let known = document["components"]["schemas"]["Video"]["properties"]
                .as_object()
                .unwrap();
            for name in video.as_object().unwrap().keys() {
                assert!(known.contains_key(name), "{name} is in no document");
            }
            assert!(
                !video.to_string().contains("acme"),
                "tenants are not told: {video}"
            );
        }
    }
}

/// Wherever a client may write a URL, nobody goes there.
/// covers: S5, S18
#[tokio::test]
async fn owasp_api7_no_url_of_a_client_is_fetched() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/latest/meta-data", listener.local_addr().unwrap());
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&url);
    let metadata = format!("url {encoded},source {encoded},callback {encoded},filename {encoded}");
    let token = format!(
        "{}.{}.c2ln",
        b64(&format!(
            r#"{{"alg":"RS256","kid":"{url}","jku":"{url}","x5u":"{url}"}}"#
        )),
        b64(&format!(
            r#"{{"iss":"{url}","sub":"x","aud":"y","exp":99999999999}}"#
        )),
    );
    let id = created(&stage, &replica).await;
    for who in [
        secret("phone"),
        token,
        format!("kut_{url}"),
        format!("{url}.{url}"),
    ] {
        for (method, path) in ROUTES {
            let path = format!("{}?url={url}&callback={url}", path.replace("{id}", &id));
            let mut request = stage.ask(&replica, Some(&who), method, &path);
            for name in [
                "Origin",
                "Referer",
                "Forwarded",
                "X-Forwarded-Host",
                "X-Original-URL",
                "Content-Location",
                "Link",
                "Upload-Concat",
                "Upload-Source",
                "X-Amz-Copy-Source",
                "Kinora-Profile",
                "Destination",
            ] {
                request = request.header(name, &url);
            }
            let request = request
                .header("Upload-Length", "5000")
                .header("Upload-Metadata", &metadata);
            let request = request.header("Content-Type", "application/json");
            let body = serde_json::json!({"items": [{"length": 9, "metadata": {"url": url}}]});
            request.body(body.to_string()).send().await.unwrap();
        }
    }
    // A file whose name is a URL, to its end.
    let request = stage.ask(&replica, Some(&secret("phone")), "POST", "/v1/uploads");
    let request = request
        .header("Upload-Length", "5000")
        .header("Upload-Metadata", &metadata);
    let answer = request
        .header("Content-Type", STREAM)
        .body(video(5000))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    assert!(
        listener.accept().now_or_never().is_none(),
        "somebody went there"
    );
}

/// No text of an answer says how the server is made, and nothing is served but what is documented.
/// covers: S18, S19
#[tokio::test]
async fn owasp_api8_errors_say_nothing_of_the_inside_and_no_debug_page_is_there() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = created(&stage, &replica).await;
    // Of the store, where the answer's cause is one.
    let state = keys::state(&id.parse::<UploadId>().unwrap());
    let store = Store::new(&stage.store_args()).unwrap();
    let broken = store.put(&state, "{\"broken".into(), PutOptions::default());
    broken.await.unwrap();
    let inside = [
        "src/",
        ".rs",
        "panicked",
        "stack",
        "RUST",
        "s3",
        "bucket",
        "kinora-test",
        "127.0.0.1",
        "hyper",
        "axum",
        "line ",
        stage.files.path().to_str().unwrap(),
        &state,
    ]
    .map(str::to_owned);
    let cases = [
        ("GET", "/debug/pprof/"),
        ("GET", "/debug"),
        ("GET", "/env"),
        ("GET", "/config"),
        ("GET", "/actuator/env"),
        ("GET", "/.git/config"),
        ("GET", "/.env"),
        ("GET", "/server-status"),
        ("GET", "/v1"),
        ("GET", "/"),
        ("GET", "/v1/uploads//"),
        ("TRACE", "/v1/uploads"),
        ("CONNECT2", "/v1/videos"),
        ("PROPFIND", "/v1/videos"),
        ("HEAD", "/v1/uploads/{id}"),
        ("PATCH", "/v1/uploads/{id}"),
        ("GET", "/v1/videos/{id}"),
        ("GET", "/v1/videos?cursor=%00"),
        ("POST", "/v1/batches"),
    ];
    for (method, path) in cases {
        let request = stage.ask(
            &replica,
            Some(&secret("phone")),
            method,
            &path.replace("{id}", &id),
        );
        let request = request
            .header("Origin", "https://app.example")
            .header("Upload-Offset", "0");
        let answer = request
            .header("Content-Type", STREAM)
            .body("{")
            .send()
            .await
            .unwrap();
        let name = format!("{method} {path}: {}", answer.status());
        assert!(answer.status().as_u16() >= 400, "{name}");
        is_bare(&name, &answer);
        let text = answer.text().await.unwrap();
        for word in &inside {
            // The kinds of problems have their own domain.
            let told = text.replace("https://kinora.dev/problems/", "");
            assert!(
                !told.contains(word.as_str()),
                "{name} tells {word:?}: {text}"
            );
        }
    }
}

/// Successes are as bare as errors, and so are the probes.
/// covers: S18, S19
#[tokio::test]
async fn owasp_api8_no_answer_names_its_server_or_lacks_a_header_that_the_guide_promises() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let (file, admin) = (video(5000), secret("admin"));
    let ask = |method: &str, path: &str| stage.ask(&replica, Some(&admin), method, path);
    let create = || ask("POST", "/v1/uploads").header("Upload-Length", "5000");
    let [made, ended] = [create(), create()].map(reqwest::RequestBuilder::send);
    let [made, ended] = [made.await.unwrap(), ended.await.unwrap()];
    is_bare("create", &made);
    let upload = format!("/v1/uploads/{}", id_of(&made));
    let patch = ask("PATCH", &upload)
        .header("Upload-Offset", "0")
        .header("Content-Type", STREAM);
    let whole = create().header("Content-Type", STREAM);
    let batch = ask("POST", "/v1/batches")
        .header("Content-Type", "application/json")
        .body(r#"{"items":[{"length":9}]}"#);
    let requests = [
        ("HEAD", ask("HEAD", &upload)),
        ("PATCH", patch.body(file.clone())),
        ("a whole file", whole.body(file)),
        ("a batch", batch),
        ("a list", ask("GET", "/v1/videos")),
        ("a video", ask("GET", &upload.replace("uploads", "videos"))),
        ("the document", ask("GET", "/v1/openapi.json")),
        (
            "an end",
            ask("DELETE", &format!("/v1/uploads/{}", id_of(&ended))),
        ),
        ("OPTIONS", ask("OPTIONS", "/v1/uploads")),
        ("OPTIONS of videos", ask("OPTIONS", "/v1/videos")),
    ];
    for (name, request) in requests {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{name}: {}", answer.status());
        is_bare(name, &answer);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = ask("GET", path).header("Origin", "https://app.example");
        let answer = answer.send().await.unwrap();
        has_none(path, answer.headers(), &NEVER);
        has_none(path, answer.headers(), &["access-control-allow-origin"]);
    }
}

/// So is what the listener refuses by itself.
/// covers: S18, S19
#[tokio::test]
async fn owasp_api8_what_is_no_request_gets_a_status_and_nothing_else() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(70_000)
    );
    for (sent, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        // It is answered, and closed, before all of it is read.
        let _ = socket.write_all(sent.as_bytes()).await;
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said).await;
        let said = String::from_utf8(said).unwrap().to_lowercase();
        assert!(said.starts_with(&format!("http/1.1 {status} ")), "{said}");
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{said}");
        for name in NEVER {
            assert!(!head.contains(&format!("\n{name}:")), "{said}");
        }
    }
}

/// Scripts of any site are told the same: everybody, without credentials. Nothing that a request says comes back.
/// covers: S18
#[tokio::test]
async fn owasp_api8_cors_is_for_all_origins_alike_and_never_with_credentials() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = created(&stage, &replica).await;
    let (phone, upload) = (secret("phone"), format!("/v1/uploads/{id}"));
    let cases = [
        ("OPTIONS", upload.as_str(), None, 200),
        ("OPTIONS", "/v1/uploads", None, 200),
        ("HEAD", &upload, Some(phone.as_str()), 200),
        ("HEAD", &upload, None, 401),
        ("HEAD", "/v1/uploads/none", Some(&phone), 404),
        ("GET", "/v1/videos", Some(&phone), 200),
        ("GET", "/none", Some(&phone), 404),
    ];
    for (method, path, who, want) in cases {
        for origin in ["https://app.example", "https://evil.example", "null", "*"] {
            let request = stage
                .ask(&replica, who, method, path)
                .header("Origin", origin)
                .header("Cookie", "session=1")
                .header("Access-Control-Request-Method", "EVIL")
                .header("Access-Control-Request-Headers", "x-evil, cookie")
                .header("Access-Control-Request-Private-Network", "true");
            let answer = request.send().await.unwrap();
            let name = format!("{method} {path} from {origin}");
            assert_eq!(answer.status(), want, "{name}");
            is_bare(&name, &answer);
            let headers = answer.headers();
            let allowed: Vec<_> = headers
                .get_all("access-control-allow-origin")
                .iter()
                .collect();
            assert_eq!(allowed, ["*"], "{name}");
            let text = format!("{headers:?}").to_lowercase();
            for word in ["evil", "app.example", "null", "cookie", "private-network"] {
                assert!(!text.contains(word), "{name}: {word} in {text}");
            }
            let preflight = headers.contains_key("access-control-allow-headers");
            assert_eq!(preflight, method == "OPTIONS", "{name}");
            assert!(
                !text.contains("kinora-upload-token"),
                "{name}: tokens are asked for and read by backends only"
            );
        }
        let answer = stage.ask(&replica, who, method, path).send().await.unwrap();
        let told = answer.headers().keys();
        let cors = |name: &&http::HeaderName| name.as_str().starts_with("access-control");
        assert_eq!(told.filter(cors).count(), 0, "{method} {path} of no script");
    }
}

/// Uploaders speak plain HTTP; the Ingress of the guide ends TLS, and lets nothing but the API in.
/// covers: S18, S19
#[test]
fn owasp_api8_the_ingress_of_the_guide_ends_tls_and_opens_the_api_alone() {
    let read = |path: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        std::fs::read_to_string(format!("{root}/{path}")).unwrap()
    };
    let guide = read("docs/install.md");
    let start = guide
        .find("    apiVersion: networking.k8s.io/v1\n")
        .unwrap();
    let lines = guide[start..].lines();
    let block: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    let ingress: Ingress = serde_yaml::from_str(&block.join("\n")).unwrap();
    let annotations = ingress.metadata.annotations.unwrap();
    for (name, want) in [
        ("proxy-request-buffering", "off"),
        ("proxy-body-size", "0"),
        ("ssl-redirect", "true"),
    ] {
        let name = format!("nginx.ingress.kubernetes.io/{name}");
        assert_eq!(annotations[&name], want, "{name}");
    }
    let spec = ingress.spec.unwrap();
    let hosts: Vec<_> = spec
        .tls
        .unwrap()
        .into_iter()
        .filter_map(|tls| tls.hosts)
        .collect();
    let rules = spec.rules.unwrap();
    assert!(!rules.is_empty());
    let service = read("charts/kinora/templates/uploader-service.yaml");
    for rule in rules {
        let host = rule.host.unwrap();
        assert!(hosts.concat().contains(&host), "{host} has no certificate");
        assert!(guide.contains(&format!("publicUrl: https://{host}")));
        for path in rule.http.unwrap().paths {
            assert_eq!(path.path.as_deref(), Some("/v1/"));
            let backend = path.backend.service.unwrap();
            assert!(service.contains(&format!("name: {}\n", backend.name)));
            let port = backend.port.unwrap().name.unwrap();
            assert!(service.contains(&format!("- name: {port}\n")));
        }
    }
}

/// Headers that say more than anybody needs to know.
const NEVER: [&str; 6] = [
    "server",
    "x-powered-by",
    "via",
    "x-runtime",
    "set-cookie",
    "access-control-allow-credentials",
];

/// What every answer of the API has, and what none has.
fn is_bare(name: &str, answer: &Response) {
    let headers = answer.headers();
    assert_eq!(headers["x-content-type-options"], "nosniff", "{name}");
    assert_eq!(headers["cache-control"], "no-store", "{name}");
    has_none(name, headers, &NEVER);
}

fn has_none(name: &str, headers: &http::HeaderMap, never: &[&str]) {
    for header in never {
        assert!(!headers.contains_key(*header), "{name} has {header}");
    }
}

/// One version, one document: it is served as it is checked in, and nothing answers beside its paths.
/// covers: S18
#[tokio::test]
async fn owasp_api9_what_is_served_is_the_document_that_is_checked_in() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let get = |path: &str| {
        stage
            .ask(&replica, Some(&secret("admin")), "GET", path)
            .send()
    };
    let served = get("/v1/openapi.json").await.unwrap().text().await.unwrap();
    let checked_in = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    assert!(served == std::fs::read_to_string(checked_in).unwrap());
    let document: serde_json::Value = serde_json::from_str(&served).unwrap();
    assert_eq!(document["info"]["version"], "1");
    let probes = ["/livez", "/readyz", "/metrics"];
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(
            path.starts_with("/v1/") || probes.contains(&path.as_str()),
            "{path} has no version"
        );
        let answer = get(&path.replace("{id}", "a-01arz3ndektsv4rrffq69g5fav"))
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let there = status < 400 || status == 405 || path.contains("{id}");
        assert!(there, "{path} is documented and answers {status}");
    }
    for path in [
        "/uploads",
        "/v0/uploads",
        "/v2/uploads",
        "/v1beta/uploads",
        "/api/v1/uploads",
        "/v1/admin",
        "/v1/users",
    ] {
        assert_eq!(get(path).await.unwrap().status(), 404, "{path}");
    }
}

/// What comes from the store is read as what strangers wrote: bounded, checked, and never passed on.
/// covers: S15, S18
#[tokio::test]
async fn owasp_api10_answers_of_the_store_are_bounded_and_checked() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let store = Store::new(&stage.store_args()).unwrap();
    let deep = "[".repeat(100_000);
    let other =
        r#"{"v":1,"id":"a-00000000000000000000000000","owner":{"iss":"apikey","sub":"phone"}}"#;
    let bodies = [
        ("no JSON", b"\xff\xfe<html>evil</html>".to_vec()),
        ("too deep", deep.into_bytes()),
        ("too large", vec![b' '; 1 << 20]),
        ("of another version", br#"{"v":99,"evil":true}"#.to_vec()),
        ("of another upload", other.as_bytes().to_vec()),
        ("nothing", Vec::new()),
    ];
    for (name, body) in bodies {
        let id = created(&stage, &replica).await;
        let key = keys::state(&id.parse::<UploadId>().unwrap());
        let put = store.put(&key, body.into(), PutOptions::default());
        put.await.unwrap();
        for (method, path) in [
            ("HEAD", "uploads"),
            ("PATCH", "uploads"),
            ("DELETE", "uploads"),
            ("GET", "videos"),
        ] {
            let request = stage.ask(
                &replica,
                Some(&secret("phone")),
                method,
                &format!("/v1/{path}/{id}"),
            );
            let request = request
                .header("Upload-Offset", "0")
                .header("Content-Type", STREAM);
            let answer = request.body(video(900)).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(
                (400..500).contains(&status) || status == 503,
                "{name}: {method} answers {status}"
            );
            let text = answer.text().await.unwrap();
            assert!(
                text.len() < 1000 && !text.contains("evil"),
                "{name}: {text}"
            );
        }
    }
    // A document that is good but for its megabytes is not read either.
    let id = created(&stage, &replica).await;
    let key = keys::state(&id.parse::<UploadId>().unwrap());
    let ask = || {
        let path = format!("/v1/videos/{id}");
        stage.ask(&replica, Some(&secret("phone")), "GET", &path)
    };
    assert_eq!(ask().send().await.unwrap().status(), 200);
    let mut padded = stage.s3.object(&key).unwrap().to_vec();
    padded.resize(2 << 20, b' ');
    let put = store.put(&key, padded.into(), PutOptions::default());
    put.await.unwrap();
    assert_eq!(ask().send().await.unwrap().status(), 503);
    created(&stage, &replica).await;
}
