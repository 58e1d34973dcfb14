//! What the operator relies on an API server to do. The fakes of the tests are held to it, and so is the real one (`e2e`): a
//! fake that is stricter or looser would prove something else.

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

/// What an answer was: the object, or the status code of a refusal.
type Answer = Result<Value, u16>;

fn answer(answer: kube::Result<DynamicObject>) -> Answer {
    match answer {
        Ok(object) => Ok(serde_json::to_value(object).unwrap_or_default()),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(_) => Err(0),
    }
}

/// Walks through the life of the VideoJob `name`, which is there, has no finalizers, and is nobody else's.
///
/// # Errors
/// What was answered, and what should have been.
pub(crate) async fn holds(api: &Api<DynamicObject>, name: &str) -> Result<(), String> {
    let read = || async { answer(api.get(name).await) };
    let write = |of: &str, body: Value| {
        let (of, params) = (of.to_owned(), PatchParams::default());
        async move { answer(api.patch_status(&of, &params, &Patch::Merge(&body)).await) }
    };
    let delete = |preconditions: Preconditions| {
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        async move {
            let gone = api.delete(name, &params).await;
            answer(gone.map(|either| {
                either.left().unwrap_or_else(|| DynamicObject {
                    types: None,
                    metadata: kube::api::ObjectMeta::default(),
                    data: Value::Null,
                })
            }))
        }
    };
    let is = |what: &str, answer: &Answer, want: Option<u16>| match (answer, want) {
        (Ok(_), None) => Ok(()),
        (Err(code), Some(want)) if *code == want => Ok(()),
        _ => Err(format!("{what}: {answer:?}, wanted {want:?}")),
    };
    let same = |what: &str, is: &Value, want: &Value| match is == want {
        true => Ok(()),
        false => Err(format!("{what}: {is}, wanted {want}")),
    };

    let first = read().await.map_err(|code| format!("get: {code}"))?;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let (uid, old) = (first["metadata"]["uid"].clone(), version(&first));
    let body =
        |rv: &Value, status: Value| json!({"metadata": {"resourceVersion": rv}, "status": status});

    // A write of the version that was read takes, and is of the status alone.
    let message = json!({"attempt": 1, "poolName": "a"});
    let mut with_spec = body(&old, message);
    with_spec["spec"] = json!({"priority": 77});
    let written = write(name, with_spec).await;
    is("a status write", &written, None)?;
    let second = written.unwrap_or_default();
    same("attempt", &second["status"]["attempt"], &json!(1))?;
    same("spec after a status write", &second["spec"], &first["spec"])?;
    same("uid", &second["metadata"]["uid"], &uid)?;
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    same("generation", &generation(&second), &generation(&first))?;
    if version(&second) == old {
        return Err("a write left the resourceVersion as it was".to_owned());
    }
    same(
        "what is read then",
        &version(&read().await.unwrap_or_default()),
        &version(&second),
    )?;

    // A write of an older version changes nothing.
    let stale = write(name, body(&old, json!({"attempt": 2}))).await;
    is("a write of an older version", &stale, Some(409))?;
    let now = read().await.unwrap_or_default();
    same("attempt after it", &now["status"]["attempt"], &json!(1))?;
    same("version after it", &version(&now), &version(&second))?;

    // Only the version guards a write: another's uid is no hindrance.
    let other = json!("00000000-0000-4000-8000-000000000000");
    let mut by_another = body(&version(&second), json!({"attempt": 2}));
    by_another["metadata"]["uid"] = other.clone();
    let third = write(name, by_another).await;
    is("a write with another uid", &third, None)?;
    let third = third.unwrap_or_default();
    same("uid after it", &third["metadata"]["uid"], &uid)?;

    // Null removes, as RFC 7386 says.
    let removed = write(name, body(&version(&third), json!({"poolName": null}))).await;
    let removed = removed.map_err(|code| format!("a field that goes: {code}"))?;
    same(
        "a field that went",
        &removed["status"]["poolName"],
        &Value::Null,
    )?;
    same("one that stayed", &removed["status"]["attempt"], &json!(2))?;
    let nobody = write("vj-nobody", body(&old, json!({"attempt": 1}))).await;
    is("a write of what is not there", &nobody, Some(404))?;

    // A deletion is of this object in this version.
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of = |uid: &Value, version: &Value| Preconditions {
        uid: text(uid),
        resource_version: text(version),
    };
    let last = version(&removed);
    is(
        "a deletion of another object",
        &delete(of(&other, &last)).await,
        Some(409),
    )?;
    is(
        "a deletion of an older version",
        &delete(of(&uid, &old)).await,
        Some(409),
    )?;
    is("read after both", &read().await, None)?;
    is("a deletion", &delete(of(&uid, &last)).await, None)?;
    is("read after it", &read().await, Some(404))?;
    is(
        "another deletion",
        &delete(of(&uid, &last)).await,
        Some(404),
    )
}
