//! The commands of the guides, as a reader would paste them, against a replica: every block of shell that calls curl runs,
//! and each call is answered as the guide says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::stage::{Replica, SECRET, Stage, id_of, secret, video};

/// The statuses of the calls of each block, in order.
const GUIDES: [(&str, &[&[u16]]); 3] = [
    (
        "uploading",
        &[&[201], &[201, 204, 200], &[201, 201, 204], &[201, 204]],
    ),
    (
        "status-api",
        // The first only says who asks.
        &[
            &[],
            &[200, 200, 304],
            &[200, 200, 200, 200],
            &[200],
            &[204],
            &[202],
        ],
    ),
    ("access", &[&[201, 201]]),
];

/// What a reader has: an upload to go on with, and a curl that tells what it was answered. A new upload's URL is what the
/// next line's `<id>` stands for.
const PRELUDE: &str = r#"set -eu -o pipefail
curl() {
  local code=0 word status location
  command curl --max-time 60 -w '%{stderr}answered %{http_code} %header{location}\n' "$@" 2>said || code=$?
  cat said >&2
  read -r word status location < <(grep '^answered ' said)
  echo "$status" >>statuses
  case $location in /v1/uploads/*) ID=${location##*/} ;; esac
  return $code
}
"#;

/// The blocks of shell in a guide that call curl, or define what the others call.
fn blocks(guide: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{guide}.md"));
    let text = std::fs::read_to_string(&path).unwrap();
    let fenced = text.split("```sh\n").skip(1);
    let fenced = fenced.map(|rest| rest.split("```").next().unwrap());
    let calls = |block: &&str| block.contains("curl ") || block.contains("ask ");
    fenced.filter(calls).map(str::to_owned).collect()
}

/// A key that may do everything, as the guides assume.
fn all_scopes(stage: &Stage) {
    let scopes = ["upload", "tenant", "delegate", "erase"].map(|scope| format!("kinora:{scope}"));
    let sha256 = hex::encode(Sha256::digest(SECRET));
    let key = serde_json::json!({"sha256": sha256, "tenant": "acme", "scopes": scopes});
    std::fs::write(stage.files.path().join("keys/boss"), key.to_string()).unwrap();
}

/// What the variables of the guides stand for: a video that is stored, its ETag, and where a list goes on.
async fn reader(stage: &Stage, replica: &Replica, bytes: usize) -> Vec<(&'static str, String)> {
    let boss = secret("boss");
    let upload = || {
        let request = stage.http.post(format!("{}/v1/uploads", replica.base));
        request.bearer_auth(&boss).body(video(1000)).send()
    };
    upload().await.unwrap();
    let stored = id_of(&upload().await.unwrap());
    let ask = |path: String| stage.ask(replica, Some(&boss), "GET", &path).send();
    let etag = ask(format!("/v1/videos/{stored}")).await.unwrap().headers()["etag"].clone();
    let list = ask("/v1/videos?limit=1".into()).await.unwrap();
    let list: serde_json::Value = list.json().await.unwrap();
    let open = id_of(&stage.create(replica, "boss", bytes).await);
    vec![
        ("BASE", replica.base.clone()),
        ("KEY", boss.clone()),
        ("BACKEND", boss),
        ("ID", stored),
        ("UPLOAD", open),
        ("ETAG", etag.to_str().unwrap().to_owned()),
        ("CURSOR", list["cursor"].as_str().unwrap().to_owned()),
    ]
}

/// Runs a block; the statuses of its calls, and all that was said.
async fn run(script: &str, folder: &Path, variables: &[(&str, String)]) -> (Vec<u16>, String) {
    let statuses = folder.join("statuses");
    std::fs::write(&statuses, "").unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .current_dir(folder)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), bash.output()).await;
    let output = output.expect("it hangs").unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = format!(
        "{}\n{script}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
    let statuses = std::fs::read_to_string(&statuses).unwrap();
    (
        statuses.lines().map(|line| line.parse().unwrap()).collect(),
        said,
    )
}

/// covers: S18
#[tokio::test]
async fn every_command_of_the_guides_does_what_they_say() {
    let stage = Stage::new();
    all_scopes(&stage);
    let replica = stage.replica(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = video(20_000);
    std::fs::write(folder.path().join("clip.mp4"), &file).unwrap();
    for (guide, want) in GUIDES {
        let blocks = blocks(guide);
        assert_eq!(
            blocks.len(),
            want.len(),
            "a block of {guide} is not known here: {blocks:#?}"
        );
        // A guide may begin with what all of its blocks use.
        let common = blocks[0].contains("ask()").then(|| blocks[0].clone());
        let common = common.unwrap_or_default();
        let common = common.replace("http://localhost:8080", &replica.base);
        let common = common.replace("phone.secret", &secret("boss"));
        for (block, want) in blocks.iter().zip(want) {
            let variables = reader(&stage, &replica, file.len()).await;
            // News of a video that nobody processes would be waited for in vain.
            let block = block.replace("wait=30s", "wait=1s");
            let on_uploads = block.contains("<id>");
            let block = block.replace("<id>", "$ID");
            let first = if on_uploads { "ID=$UPLOAD\n" } else { "" };
            let block = if want.is_empty() {
                String::new()
            } else {
                block
            };
            let script = format!("{PRELUDE}{common}{first}{block}");
            let (statuses, said) = run(&script, folder.path(), &variables).await;
            assert_eq!(statuses, *want, "{guide}: {said}");
            assert!(said.starts_with("exit status: 0"), "{guide}: {said}");
        }
    }
}
