//! Upload clients that others wrote, behind two replicas without stickiness: cut at 80 %, killed, started again, while
//! replicas are killed and rolled. Afterwards every object holds the client's bytes and has exactly one job.

mod line;
mod program;
mod troubles;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use kinora_crds::names::ANNOTATION_UPLOAD_ID;
use kube::api::ListParams;

use self::line::Line;
use self::program::{Client, Desk};
use super::{Case, Context, JOB, case, padded_sample};
use crate::jobs;

/// Large enough for several parts of 8 MiB.
const FILE_BYTES: usize = 21 << 20;

/// A case for each client that is cut at 80 %.
macro_rules! cut {
    ($name:literal, $client:expr) => {
        crate::suite::Case {
            name: $name,
            run: |context| Box::pin(cut_at_four_fifths(context, $client)),
        }
    };
}

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    use program::{AIOTUS, CURL_DRAFT, CURL_POST, CURL_TUS, TUSPY, TUS_JS, TUS_JS_DRAFT_03, TUS_JS_DRAFT_05, TUS_JS_PIECES};
    vec![
        cut!("clients-tus-js-client-killed-at-80-percent-goes-on", TUS_JS),
        cut!("clients-tus-js-client-in-pieces-killed-at-80-percent-goes-on", TUS_JS_PIECES),
        cut!("clients-tus-js-client-by-draft-03-killed-at-80-percent-goes-on", TUS_JS_DRAFT_03),
        cut!("clients-tus-js-client-by-draft-05-killed-at-80-percent-goes-on", TUS_JS_DRAFT_05),
        cut!("clients-tuspy-killed-at-80-percent-goes-on", TUSPY),
        cut!("clients-aiotus-killed-at-80-percent-goes-on", AIOTUS),
        cut!("clients-curl-by-tus-killed-at-80-percent-goes-on", CURL_TUS),
        cut!("clients-curl-by-draft-killed-at-80-percent-goes-on", CURL_DRAFT),
        cut!("clients-curl-by-post-killed-at-80-percent-begins-anew", CURL_POST),
        case!("clients-uppy-in-chromium-reloaded-at-half-and-crashed-at-80-percent-goes-on", uppy),
        case!("clients-lose-nothing-while-replicas-are-killed-and-rolled", troubles::all_at_once),
    ]
}

/// One client at its desk, and the jobs that were there before it.
struct Scene<'a> {
    context: &'a Context,
    file: Bytes,
    programs: PathBuf,
    path: PathBuf,
    service: SocketAddr,
    before: BTreeSet<String>,
}

impl<'a> Scene<'a> {
    async fn set(context: &'a Context) -> Result<Self> {
        let programs = context.clients.clone();
        let programs = programs.context("the upload clients are not installed")?;
        let file = padded_sample("bikes.mp4", FILE_BYTES)?;
        let path = context.scratch.join("clip.mp4");
        std::fs::write(&path, &file)?;
        context.two_replicas().await?;
        let service = context.stack.uploader().await?;
        let service = service
            .strip_prefix("http://")
            .unwrap_or(&service)
            .parse()?;
        let before = job_names(context).await?;
        Ok(Self {
            context,
            file,
            programs,
            path,
            service,
            before,
        })
    }

    /// A desk with nothing remembered, and a line of its own.
    async fn desk(&self, client: &Client) -> Result<(Desk, Line)> {
        let state = self.context.scratch.join("clients").join(client.name);
        if state.exists() {
            std::fs::remove_dir_all(&state)?;
        }
        std::fs::create_dir_all(&state)?;
        let desk = Desk {
            programs: self.programs.clone(),
            file: self.path.clone(),
            state,
            token: self.context.stack.api_key.clone(),
        };
        Ok((desk, Line::to(self.service).await?))
    }

    /// Every object is the file, every upload has one job, which succeeds, and nothing else has come into being.
    async fn prove(&self, uploads: &[String]) -> Result<()> {
        let stack = &self.context.stack;
        let store = stack.store().await?;
        for id in uploads {
            let key = kinora_storage::keys::video(&id.parse()?);
            let object = store
                .get(&key)
                .await?
                .with_context(|| format!("no {key}"))?;
            ensure!(
                object.bytes == self.file,
                "{id}: the stored bytes differ from the file"
            );
            let job = kinora_crds::names::job_name(id);
            let job = jobs::until_state(stack, &job, "Succeeded", JOB).await?;
            let annotations = job.metadata.annotations.unwrap_or_default();
            ensure!(
                annotations.get(ANNOTATION_UPLOAD_ID) == Some(id),
                "{id}: its job is another's"
            );
        }
        let want: BTreeSet<String> = uploads
            .iter()
            .map(|id| kinora_crds::names::job_name(id))
            .collect();
        let all = job_names(self.context).await?;
        let new: BTreeSet<String> = all.difference(&self.before).cloned().collect();
        ensure!(
            want.len() == uploads.len() && new == want,
            "jobs {new:?} for uploads {uploads:?}"
        );
        Ok(())
    }
}

async fn job_names(context: &Context) -> Result<BTreeSet<String>> {
    let list = jobs::api(&context.stack)
        .list(&ListParams::default())
        .await?;
    Ok(list
        .items
        .into_iter()
        .filter_map(|job| job.metadata.name)
        .collect())
}

async fn cut_at_four_fifths(context: &Context, client: Client) -> Result<()> {
    let scene = Scene::set(context).await?;
    let (desk, line) = scene.desk(&client).await?;
    let size = FILE_BYTES as u64;
    line.hold_at(size / 5 * 4);
    let mut child = client.start(&desk, &line)?;
    let ended = tokio::select! {
        () = line.held() => None,
        ended = child.wait() => Some(ended?),
    };
    if let Some(ended) = ended {
        let why = program::said(&desk.state, "stderr");
        bail!("{} ended before 80 %: {ended}: {why}", client.name);
    }
    program::kill(&child);
    child.wait().await?;
    line.release();
    let id = client.finish(&desk, &line).await?;
    // Begun anew it would be 1.8 times the file; what is sent again is what was on its way.
    let most = if client.resumes {
        size / 2 * 3
    } else {
        size * 2
    };
    ensure!(
        line.sent() <= most,
        "{} sent {} bytes of a file of {size}",
        client.name,
        line.sent()
    );
    scene.prove(&[id]).await
}

async fn uppy(context: &Context) -> Result<()> {
    let scene = Scene::set(context).await?;
    let (desk, line) = scene.desk(&program::UPPY).await?;
    let id = program::UPPY.finish(&desk, &line).await?;
    scene.prove(&[id]).await
}
