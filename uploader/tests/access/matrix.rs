//! Every route and method, asked by everybody, for ids of every kind.

use crate::stage::{Replica, STREAM, Stage, id_of, secret, video};

/// Method and path of everything that is about one upload or video.
const ROUTES: [(&str, &str); 8] = [
    ("HEAD", "/v1/uploads/{id}"),
    ("PATCH", "/v1/uploads/{id}"),
    ("GET", "/v1/videos/{id}"),
    ("HEAD", "/v1/videos/{id}"),
    ("POST", "/v1/uploads/{id}/token"),
    ("DELETE", "/v1/videos/{id}"),
    ("DELETE", "/v1/uploads/{id}"),
    ("POST", "/v1/videos/{id}/erase"),
];

async fn ask(
    stage: &Stage,
    replica: &Replica,
    who: Option<&str>,
    route: (&str, &str),
    id: &str,
) -> u16 {
    let (method, path) = route;
    let request = stage.ask(replica, who, method, &path.replace("{id}", id));
    // What each needs to be understood, so that nothing but the owner decides.
    let (kind, body) = match method {
        "PATCH" => (STREAM, video(1000)),
        _ => (
            "application/json",
            br#"{"reason":"the user asked"}"#.to_vec(),
        ),
    };
    let body = if matches!(method, "PATCH" | "POST") {
        body
    } else {
        Vec::new()
    };
    let request = request
        .header("Upload-Offset", "0")
        .header("Content-Type", kind);
    request.body(body).send().await.unwrap().status().as_u16()
}

/// Nobody learns of another's upload, whatever is asked: not even that it exists.
/// covers: S8, S18, T26, I9
#[tokio::test]
async fn owasp_api1_what_belongs_to_others_is_as_if_it_were_not_there() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = id_of(&stage.create(&replica, "phone", 5000).await);
    let other = id_of(&stage.create(&replica, "backend", 5000).await);
    let token = token_for(&stage, &replica, &other).await;
    let outsiders = [
        ("another owner of the tenant", Some(secret("stranger"))),
        ("a backend of the tenant", Some(secret("backend"))),
        ("the tenant scope of another tenant", Some(secret("rival"))),
        ("an upload token of another upload", Some(token)),
        ("a credential without scopes", Some(secret("idle"))),
        ("a wrong secret", Some("phone.wrong".into())),
        ("a key id that climbs", Some("../phone.x".into())),
        ("nobody", None),
    ];
    for (name, who) in outsiders {
        for route in ROUTES {
            let got = ask(&stage, &replica, who.as_deref(), route, &id).await;
            let known = matches!(name, "a wrong secret" | "nobody" | "a key id that climbs");
            let refused: &[u16] = match known {
                true => &[401],
                // Whoever lacks the scope is told so before anything is looked up.
                false => &[403, 404],
            };
            assert!(refused.contains(&got), "{name}: {route:?} answered {got}");
        }
    }
    let untouched = ask(&stage, &replica, Some(&secret("phone")), ROUTES[0], &id).await;
    assert_eq!(untouched, 200, "nothing happened to it");
}

/// covers: S8, T26
#[tokio::test]
async fn the_owner_the_tenant_scope_and_its_token_open_an_upload() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    for who in ["owner", "tenant scope", "token"] {
        let id = id_of(&stage.create(&replica, "backend", 5000).await);
        let credential = match who {
            "owner" => secret("backend"),
            "tenant scope" => secret("admin"),
            _ => token_for(&stage, &replica, &id).await,
        };
        for (route, want) in [(0, 200), (1, 204), (2, 200), (6, 204), (0, 410)] {
            let got = ask(&stage, &replica, Some(&credential), ROUTES[route], &id).await;
            assert_eq!(got, want, "{who}: {:?}", ROUTES[route]);
        }
    }
}

/// Ids have one spelling; everything else is no id, for strangers and owners alike, and reaches no key.
/// covers: S8, T26
#[tokio::test]
async fn what_is_no_id_opens_nothing() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = id_of(&stage.create(&replica, "phone", 5000).await);
    let upper = id.to_uppercase();
    let ids = [
        "..",
        "%2e%2e",
        "..%2f..%2frecords",
        "%2f",
        "%00",
        &format!("{id}%00"),
        &format!("{id}%2fstate"),
        &upper,
        &format!("%20{id}"),
        &format!("{id}%0d%0a"),
        "a-",
        "a-%E2%80%8B",
        "%F0%9F%8E%AC",
        "%ff%fe",
        "a-00000000000000000000000000",
        "videos",
        "*",
        &"a".repeat(2000),
        "%5c..%5c",
        "a-01;state",
        "state?x=%2e",
    ];
    for id in ids {
        for route in ROUTES {
            let got = ask(&stage, &replica, Some(&secret("phone")), route, id).await;
            assert!(
                matches!(got, 403..=405),
                "{route:?} of {id:?} answered {got}"
            );
            let got = ask(&stage, &replica, None, route, id).await;
            assert!(
                matches!(got, 401 | 404 | 405),
                "nobody: {route:?} of {id:?} answered {got}"
            );
        }
    }
    let foreign = |key: &String| !key.starts_with("up/") && !key.starts_with("control/");
    let keys: Vec<_> = stage.s3.keys("").into_iter().filter(foreign).collect();
    assert!(keys.is_empty(), "{keys:?}");
}

/// Lists and creates are for those who may, and say nothing to others.
/// covers: S18
#[tokio::test]
async fn owasp_api5_functions_are_for_those_with_their_scope() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let id = id_of(&stage.create(&replica, "phone", 5000).await);
    let token = token_for(
        &stage,
        &replica,
        &id_of(&stage.create(&replica, "backend", 9).await),
    )
    .await;
    let (phone, idle) = (secret("phone"), secret("idle"));
    let cases = [
        (
            "a create without scopes",
            idle.as_str(),
            "POST",
            "/v1/uploads",
            403,
        ),
        ("a list without scopes", &idle, "GET", "/v1/videos", 403),
        (
            "a create with an upload token",
            &token,
            "POST",
            "/v1/uploads",
            403,
        ),
        (
            "a list with an upload token",
            &token,
            "GET",
            "/v1/videos",
            403,
        ),
        (
            "a token without the scope",
            &phone,
            "POST",
            "/v1/uploads/{id}/token",
            403,
        ),
        ("a list of one's own", &phone, "GET", "/v1/videos", 200),
    ];
    for (name, who, method, path, want) in cases {
        let request = stage.ask(&replica, Some(who), method, &path.replace("{id}", &id));
        let answer = request.header("Upload-Length", "9").send().await.unwrap();
        assert_eq!(answer.status(), want, "{name}");
    }
}

pub(crate) async fn token_for(stage: &Stage, replica: &Replica, id: &str) -> String {
    let path = format!("/v1/uploads/{id}/token");
    let request = stage.ask(replica, Some(&secret("backend")), "POST", &path);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let body: serde_json::Value = answer.json().await.unwrap();
    body["token"].as_str().unwrap().to_owned()
}
