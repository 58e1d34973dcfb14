//! Rights that the chart gives only where they are asked for: what `manifests/` (which have none of it) cannot show.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Its ServiceAccount.
const UPLOADER: &str = "kinora-uploader";

/// The uploader may ask about tokens when TokenReview is set up, it and nobody else by that role, and else not at all.
pub(super) fn token_reviews(render: fn(&[&str]) -> Result<Vec<Value>>) -> Result<()> {
    let without = cluster_rights(&render(&[
        "--values",
        "charts/kinora/ci/minimal-values.yaml",
    ])?);
    ensure!(without.is_empty(), "without TokenReview: {without:?}");
    let with = cluster_rights(&render(&[
        "--values",
        "charts/kinora/ci/access-values.yaml",
    ])?);
    let want = json!({
        "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}],
        "subjects": [{"kind": "ServiceAccount", "name": UPLOADER, "namespace": "default"}],
    });
    ensure!(
        with == [want.clone()],
        "with TokenReview:\n{with:?}\nand not\n{want}"
    );
    Ok(())
}

/// What is bound to the uploader everywhere: the rules, and who has them.
fn cluster_rights(objects: &[Value]) -> Vec<Value> {
    let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let subjects = |binding: &Value| binding["subjects"].as_array().cloned().unwrap_or_default();
    let ours = of("ClusterRoleBinding").filter(|binding| {
        subjects(binding)
            .iter()
            .any(|subject| subject["name"] == UPLOADER)
    });
    let rights = ours.map(|binding| {
        let role =
            of("ClusterRole").find(|role| role["metadata"]["name"] == binding["roleRef"]["name"]);
        json!({"rules": role.map(|role| &role["rules"]), "subjects": binding["subjects"]})
    });
    rights.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "it stands for helm")]
    fn everywhere(arguments: &[&str]) -> Result<Vec<Value>> {
        let role = json!({"kind": "ClusterRole", "metadata": {"name": UPLOADER},
            "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]});
        let binding = json!({"kind": "ClusterRoleBinding", "roleRef": {"name": UPLOADER},
            "subjects": [{"kind": "ServiceAccount", "name": UPLOADER, "namespace": "default"}]});
        let all = arguments.iter().any(|argument| argument.contains("access"));
        Ok(if all { vec![role, binding] } else { Vec::new() })
    }

    /// covers: S1
    #[test]
    fn a_chart_that_gives_more_or_gives_it_always_is_refused() {
        assert!(token_reviews(everywhere).is_ok());
        let always = |_: &[&str]| everywhere(&["access"]);
        assert!(
            token_reviews(always).is_err(),
            "also when it is not asked for"
        );
        let wider = |arguments: &[&str]| {
            let mut objects = everywhere(arguments)?;
            for rule in objects
                .iter_mut()
                .filter(|object| object["kind"] == "ClusterRole")
            {
                rule["rules"][0]["verbs"] = json!(["*"]);
            }
            Ok(objects)
        };
        assert!(token_reviews(wider).is_err(), "every verb");
        let others = |arguments: &[&str]| {
            let mut objects = everywhere(arguments)?;
            for binding in objects
                .iter_mut()
                .filter(|object| object["kind"] == "ClusterRoleBinding")
            {
                let group = json!({"kind": "Group", "name": "system:authenticated"});
                binding["subjects"]
                    .as_array_mut()
                    .expect("subjects")
                    .push(group);
            }
            Ok(objects)
        };
        assert!(token_reviews(others).is_err(), "everybody");
    }
}
