//! Bad input: each says what is wrong and what to do, before anything is lost.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{Case, Context, JOB, case};
use crate::stack::BUCKET;
use crate::{jobs, uploads};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a-missing-bucket-is-named-at-start", missing_bucket),
        case!(
            "wrong-store-credentials-are-named-at-start",
            wrong_credentials
        ),
        case!("a-taken-port-is-named-at-start", taken_port),
        case!(
            "an-unreachable-service-charges-nothing-and-the-job-waits",
            unreachable_service
        ),
    ]
}

/// What a binary of this build says with these flags, and its exit code.
async fn start(binary: &str, args: &[String]) -> Result<(Option<i32>, String)> {
    let path = std::env::current_exe()?
        .parent()
        .context("no folder of binaries")?
        .join(binary);
    let child = tokio::process::Command::new(&path)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", path.display()))?;
    let Ok(output) = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await
    else {
        bail!("{binary} went on running with a configuration that cannot work");
    };
    let output = output?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.code(), text))
}

fn uploader_flags(
    context: &Context,
    bucket: &str,
    secret: Option<&str>,
    listen: &str,
) -> Result<Vec<String>> {
    let (access_key, secret_key) = context.stack.cluster.store_credentials()?;
    let directory = context.scratch.join(format!(
        "credentials-{}",
        secret.map_or("right", |_| "wrong")
    ));
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("access-key-id"), access_key)?;
    std::fs::write(
        directory.join("secret-access-key"),
        secret.unwrap_or(&secret_key),
    )?;
    let keys = context.scratch.join("api-keys");
    std::fs::create_dir_all(&keys)?;
    let key = json!({"sha256": "0".repeat(64), "tenant": "t", "scopes": ["kinora:upload"]});
    std::fs::write(keys.join("phone"), key.to_string())?;
    let flags = [
        (
            "--store-endpoint",
            format!("http://{}", crate::cluster::STORE_ADDRESS),
        ),
        ("--store-bucket", bucket.to_owned()),
        ("--store-credentials-dir", directory.display().to_string()),
        ("--namespace", crate::stack::RELEASE_NAMESPACE.to_owned()),
        ("--jobs-namespace", crate::stack::JOBS_NAMESPACE.to_owned()),
        ("--api-keys-dir", keys.display().to_string()),
        ("--listen", listen.to_owned()),
    ];
    Ok(flags
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect())
}

async fn missing_bucket(context: &Context) -> Result<()> {
    let (code, text) = start(
        "kinora-uploader",
        &uploader_flags(context, "no-such-bucket", None, "127.0.0.1:0")?,
    )
    .await?;
    ensure!(code == Some(2), "exit code {code:?}: {text}");
    ensure!(
        text.contains("no-such-bucket") && text.contains("--store-bucket"),
        "does not name the bucket and the flag: {text}"
    );
    Ok(())
}

async fn wrong_credentials(context: &Context) -> Result<()> {
    let wrong = "0123456789abcdef0123456789abcdef";
    let (code, text) = start(
        "kinora-uploader",
        &uploader_flags(context, BUCKET, Some(wrong), "127.0.0.1:0")?,
    )
    .await?;
    ensure!(code == Some(2), "exit code {code:?}: {text}");
    ensure!(
        text.contains("--store-credentials-dir"),
        "does not name the flag: {text}"
    );
    ensure!(!text.contains(wrong), "prints the secret");
    Ok(())
}

async fn taken_port(context: &Context) -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let (code, text) = start(
        "kinora-uploader",
        &uploader_flags(context, BUCKET, None, &address)?,
    )
    .await?;
    ensure!(
        code.is_some_and(|code| code != 0),
        "exit code {code:?}: {text}"
    );
    ensure!(
        text.contains(&address) && text.contains("--listen"),
        "does not name the address and the flag: {text}"
    );
    Ok(())
}

async fn unreachable_service(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack.scale_service(0).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    let waited = jobs::until(
        stack,
        &upload.job(),
        "to wait for the service",
        JOB,
        |status| status.state == "Backoff" && status.last_failure.is_some(),
    )
    .await;
    stack.scale_service(1).await?;
    let status = jobs::status(&waited?);
    ensure!(
        status.failures == 0,
        "an absent service was charged: {status:?}"
    );
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    ensure!(
        jobs::status(&job).failures == 0,
        "an absent service was charged: {:?}",
        jobs::status(&job)
    );
    Ok(())
}
