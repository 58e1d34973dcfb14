//! The chart's network policies, read as a cluster's network reads them: who reaches whom, and that nothing else is let through.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

const NAMESPACE: &str = "kinora-system";
const HA: &str = "charts/kinora/ci/ha-values.yaml";
/// Where clouds hand out a node's credentials.
const METADATA: &str = "169.254.169.254";

/// One end of a connection.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Pod { namespace: String, labels: Value },
    Address(IpAddr),
}

fn pod(namespace: &str, labels: Value) -> End {
    let namespace = namespace.to_owned();
    End::Pod { namespace, labels }
}

fn ours(component: &str) -> End {
    let labels = json!({
        "app.kubernetes.io/name": "kinora", "app.kubernetes.io/instance": "kinora", "app.kubernetes.io/component": component,
    });
    pod(NAMESPACE, labels)
}

fn worker(namespace: &str) -> End {
    let labels =
        json!({"app.kubernetes.io/managed-by": "kinora-operator", "kinora.dev/pool": "default"});
    pod(namespace, labels)
}

fn address(text: &str) -> Result<End> {
    Ok(End::Address(text.parse()?))
}

/// What a selector asks for; nothing asked for is fulfilled by everything.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    let equal = |(key, value): (&String, &Value)| labels[key] == *value;
    let words = selector["matchExpressions"].as_array();
    let mut words = words.into_iter().flatten();
    wanted.into_iter().flatten().all(equal)
        && words.all(|word| {
            word["operator"] == "Exists"
                && word["key"]
                    .as_str()
                    .is_some_and(|key| !labels[key].is_null())
        })
}

/// Whether an address is within `a.b.c.d/n`.
fn within(address: IpAddr, cidr: &str) -> Option<bool> {
    let (base, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let bits = |address| match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address))),
        IpAddr::V6(address) => (128, u128::from(address)),
    };
    let ((size, base), (of, address)) = (bits(base.parse().ok()?), bits(address));
    let shift = size - length;
    Some(size == of && (shift == 128 || base >> shift == address >> shift))
}

fn is_peer(peer: &Value, other: &End, policy_namespace: &str) -> bool {
    match other {
        End::Address(address) => {
            let block = &peer["ipBlock"];
            let inside = |cidr: &Value| within(*address, cidr.as_str()?);
            let excepted = block["except"].as_array();
            let excepted = excepted
                .into_iter()
                .flatten()
                .any(|cidr| inside(cidr) != Some(false));
            inside(&block["cidr"]) == Some(true) && !excepted
        }
        End::Pod { namespace, labels } => {
            let named = json!({"kubernetes.io/metadata.name": namespace});
            let there = match &peer["namespaceSelector"] {
                Value::Null => namespace == policy_namespace,
                selector => selects(selector, &named),
            };
            peer["ipBlock"].is_null() && there && selects(&peer["podSelector"], labels)
        }
    }
}

fn is_port(rule: &Value, port: &Value) -> bool {
    let ports = rule["ports"].as_array();
    ports.is_none_or(|ports| ports.iter().any(|one| one["port"] == *port))
}

/// Whether one side's policies let a connection through; a pod that no policy of this direction selects is open.
fn passes(policies: &[Value], of: &End, other: &End, direction: &str, port: &Value) -> bool {
    let End::Pod { namespace, labels } = of else {
        return true;
    };
    let (type_, peers) = match direction {
        "ingress" => ("Ingress", "from"),
        _ => ("Egress", "to"),
    };
    let mut fenced = policies.iter().filter(|policy| {
        let types = policy["spec"]["policyTypes"].as_array();
        policy["metadata"]["namespace"] == **namespace
            && selects(&policy["spec"]["podSelector"], labels)
            && types.is_some_and(|types| types.contains(&type_.into()))
    });
    let mut any = false;
    let open = fenced.any(|policy| {
        any = true;
        let rules = policy["spec"][direction].as_array();
        rules.into_iter().flatten().any(|rule| {
            let listed = rule[peers].as_array();
            let peer = |peer: &Value| is_peer(peer, other, namespace);
            is_port(rule, port) && listed.is_none_or(|listed| listed.iter().any(peer))
        })
    });
    open || !any
}

/// Whether a connection comes about; a named port is the target's.
fn connects(policies: &[Value], from: &End, to: &End, port: &Value) -> bool {
    passes(policies, from, to, "egress", port) && passes(policies, to, from, "ingress", port)
}

fn policies(objects: Vec<Value>) -> Vec<Value> {
    let is_policy = |object: &Value| object["kind"] == "NetworkPolicy";
    objects.into_iter().filter(is_policy).collect()
}

/// Everybody reaches whom he needs, and nobody else. covers: S4
pub(super) fn fenced(render: impl Fn(&[&str]) -> Result<Vec<Value>>) -> Result<()> {
    let minimal = ["--values", "charts/kinora/ci/minimal-values.yaml"];
    ensure!(policies(render(&minimal)?).is_empty(), "fenced unasked");

    let ha = ["--namespace", NAMESPACE, "--values", HA];
    let all = policies(render(&ha)?);
    for (from, to, port, want) in pairs()? {
        let got = connects(&all, &from, &to, &port);
        ensure!(got == want, "{from:?} to {to:?} port {port}: {got}");
    }
    // A store without TLS: its port is also that of the metadata service.
    let plain = [
        &ha[..],
        &["--set", "store.endpoint=http://store.example.com"],
    ]
    .concat();
    let plain = policies(render(&plain)?);
    let at_80 = json!(80);
    for who in ["operator", "uploader"].map(ours) {
        let store = [address("203.0.113.7")?, address("2001:db8::7")?];
        let store = store.into_iter().chain([pod("storage", json!({}))]);
        for store in store {
            ensure!(
                connects(&plain, &who, &store, &at_80),
                "{who:?} to {store:?}"
            );
        }
        for closed in [METADATA, "fd00:ec2::254", "fe80::1"] {
            ensure!(
                !connects(&plain, &who, &address(closed)?, &at_80),
                "{who:?} to {closed}"
            );
        }
    }
    behind_services(&render, &ha)?;
    // Without a collector its port is closed.
    let quiet = [&ha[..], &["--set", "tracing.endpoint="]].concat();
    let quiet = policies(render(&quiet)?);
    for who in [ours("operator"), ours("uploader"), worker("videos")] {
        let collector = pod("monitoring", json!({}));
        ensure!(!connects(&quiet, &who, &collector, &json!(4318)), "{who:?}");
    }
    Ok(())
}

/// A network that resolves Services first judges the port of the pod: it is open where the values name it, and nothing beside.
fn behind_services(render: impl Fn(&[&str]) -> Result<Vec<Value>>, ha: &[&str]) -> Result<()> {
    // URL, the value that names further ports, and one port of the pod behind the Service's 80; then who goes there.
    let (operator, uploader, worker) = (ours("operator"), ours("uploader"), worker("videos"));
    let both = [&operator, &uploader];
    let all = [&operator, &uploader, &worker];
    let table = [
        ("store.endpoint", "storePorts", 8333, &both[..]),
        ("tracing.endpoint", "collectorPorts", 4318, &all[..]),
        (
            "pool.spec.service.endpoint",
            "workers.servicePorts",
            8080,
            &[&worker],
        ),
    ];
    for (url, value, target, callers) in table {
        let url = format!("{url}=http://name.elsewhere.svc");
        let named = format!("networkPolicy.{value}={{{target}}}");
        let before = policies(render(&[ha, &["--set", &url]].concat())?);
        let after = policies(render(&[ha, &["--set", &url, "--set", &named]].concat())?);
        let (pod, port) = (pod("elsewhere", json!({})), json!(target));
        for who in all {
            let calls = callers.contains(&who);
            ensure!(
                !connects(&before, who, &pod, &port),
                "{url}: {who:?} to {target} unasked"
            );
            ensure!(
                connects(&after, who, &pod, &port) == calls,
                "{named}: {who:?} to {target}"
            );
            ensure!(
                connects(&after, who, &pod, &json!(80)) == calls,
                "{named}: {who:?} to the Service itself"
            );
            ensure!(
                !connects(&after, who, &address(METADATA)?, &port),
                "{named}: {who:?} to {METADATA}"
            );
        }
    }
    Ok(())
}

/// Who connects to whom with the values of [`HA`], and whether that shall be.
fn pairs() -> Result<Vec<(End, End, Value, bool)>> {
    let (operator, uploader, worker) = (ours("operator"), ours("uploader"), worker("videos"));
    let api = address("10.96.0.1")?;
    let store = address("203.0.113.7")?;
    let metadata = address(METADATA)?;
    let service = pod("videos", json!({"app": "processing"}));
    let monitoring = pod("monitoring", json!({}));
    let stranger = pod("elsewhere", json!({}));
    let (http, dispatch) = (json!("http"), json!("dispatch"));
    let mut pairs = Vec::new();
    let mut say = |from: &End, to: &End, port: &Value, want| {
        pairs.push((from.clone(), to.clone(), port.clone(), want));
    };
    for who in [&operator, &uploader] {
        say(who, &api, &json!(443), true);
        say(who, &api, &json!(6443), true);
        say(who, &store, &json!(443), true);
        say(who, &monitoring, &json!(4318), true);
        say(who, &stranger, &json!(53), true);
        say(who, &service, &json!(50051), false);
        say(who, &worker, &http, false);
        say(who, &stranger, &json!(22), false);
        say(who, &metadata, &json!(80), false);
        say(&stranger, who, &json!(22), false);
        say(&monitoring, who, &http, true);
    }
    say(&uploader, &operator, &http, true);
    say(&uploader, &operator, &dispatch, false);
    say(&operator, &uploader, &http, false);
    say(&stranger, &uploader, &http, true);
    say(&stranger, &operator, &http, false);
    say(&stranger, &operator, &dispatch, false);
    say(&self::worker("elsewhere"), &operator, &dispatch, true);
    say(&worker, &operator, &dispatch, true);
    say(&worker, &operator, &http, false);
    say(&worker, &service, &json!(50051), true);
    say(&worker, &stranger, &json!(53), true);
    say(&worker, &monitoring, &json!(4318), true);
    // Its URLs are signed for the service: it needs neither the API server nor the store itself.
    for port in [80, 443, 6443, 8333] {
        for to in [&api, &store, &metadata, &stranger] {
            say(&worker, to, &json!(port), false);
        }
    }
    say(&worker, &metadata, &json!(50051), false);
    say(&worker, &uploader, &http, false);
    say(&monitoring, &worker, &http, true);
    say(&stranger, &worker, &http, false);
    say(&service, &worker, &http, false);
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &Value) -> Vec<Value> {
        vec![json!({"kind": "NetworkPolicy", "metadata": {"namespace": NAMESPACE}, "spec": spec})]
    }

    /// covers: S4
    #[test]
    fn policies_are_read_as_a_network_reads_them() -> Result<()> {
        let who = ours("operator");
        let (near, far) = (address("10.0.0.1")?, address(METADATA)?);
        let block = json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}], "ports": [{"port": 80}]}]);
        let egress = |rules: Value| {
            policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}))
        };
        let table = [
            ("no policy", vec![], &far, 80, true),
            ("nothing allowed", egress(json!([])), &near, 80, false),
            (
                "a rule without peers",
                egress(json!([{"ports": [{"port": 80}]}])),
                &far,
                80,
                true,
            ),
            ("within the block", egress(block.clone()), &near, 80, true),
            ("another port", egress(block.clone()), &near, 81, false),
            ("an exception", egress(block), &far, 80, false),
        ];
        for (name, policies, to, port, want) in table {
            assert_eq!(connects(&policies, &who, to, &json!(port)), want, "{name}");
        }
        let ingress =
            policy(&json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}));
        assert!(
            connects(&ingress, &who, &far, &json!(80)),
            "the other direction"
        );
        assert!(!connects(&ingress, &near, &who, &json!(80)));
        Ok(())
    }

    #[test]
    fn a_chart_without_fences_or_with_a_hole_is_refused() {
        let none = |_: &[&str]| Ok(Vec::new());
        assert!(fenced(none).is_err(), "asked for and not there");
        let open = |arguments: &[&str]| {
            let asked = arguments.contains(&HA);
            let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
            Ok(if asked { policy(&spec) } else { Vec::new() })
        };
        assert!(fenced(open).is_err(), "everything is let through");
    }
}
