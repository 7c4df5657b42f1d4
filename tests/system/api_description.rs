//! The API does what its description says: schemathesis from PyPI tries every operation with what the
//! description allows and what it does not.

use std::path::PathBuf;
use std::process::Command;

use crate::http::Served;
use serde_json::json;

const ALL: &str = "consent:read,consent:write,consent:erase,consent:export,policy:read,statistics:read,metrics,evidence:read,delivery:read,audit:read,audit:write";

/// Where `make test-packages` puts it.
fn schemathesis() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let program = folder.join("bin/schemathesis");
    assert!(program.exists(), "{} is missing; `make test-packages` puts it there", program.display());
    program
}

#[test]
fn every_operation_does_what_the_description_says() {
    let served = Served::with("burst = 1000000\nrequests_per_minute = 10000000");
    let token = served.token(ALL, "all");
    let ann = json!({"address": "ann@home.example", "state": "granted", "evidence": "form/1"}).to_string();
    let said = served.ask(&token, "PUT", "/v1/controllers/shop/consent", &ann).json();
    let person = said["consent"]["person"].as_str().unwrap();
    // The values with which operations get beyond "there is no such controller". What is set for a reason and
    // not sent by accident has answers of its own: 412 for If-Match and If-None-Match, 422 for an idempotency
    // key that was used before.
    let config = served.relay.folder.file(
        "schemathesis.toml",
        &format!(
            "[parameters]\ncontroller = \"shop\"\n\
             [checks.positive_data_acceptance]\nexpected-statuses = [\"2xx\", 304, 401, 403, 404, 409, 412, \
             422]\n\
             [[operations]]\ninclude-path-regex = \"/people/\"\ninclude-method = \
             [\"GET\", \"PUT\"]\nparameters = {{ person = \"{person}\" }}\n"
        ),
    );
    let hooks = served.relay.folder.file(
        "hooks.py",
        "import json, schemathesis\n\n@schemathesis.serializer('application/x-ndjson')\ndef lines(ctx, \
         value):\n    \
         return value if isinstance(value, bytes) else (json.dumps(value) + '\\n').encode()\n\n\
         # A key that the generator uses again is answered as before, and nothing is deleted a second time.\n\
         @schemathesis.hook\ndef map_headers(context, headers):\n    \
         if headers and context.operation.method.upper() == \
         'DELETE':\n        headers.pop('Idempotency-Key', None)\n    return headers\n",
    );
    let output = Command::new(schemathesis())
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", hooks.parent().unwrap())
        .arg("--config-file")
        .arg(&config)
        .args(["run", "--no-color", "--max-examples", "60", "--seed", "1", "--generation-database", "none"])
        .arg("-H")
        .arg(format!("Authorization: Bearer {token}"))
        .arg(format!("http://127.0.0.1:{}/v1/openapi.json", served.port))
        .current_dir(&served.relay.folder.0)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    println!(
        "{}",
        report.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}
