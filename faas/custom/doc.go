// Package custom is the provider "custom": any platform that speaks the custom FaaS platform
// protocol over HTTP.
//
// Importing it registers the provider with package faas; [New] makes an executor without the
// registry. It needs no SDK and has no build tag.
//
// # Protocol
//
// A function's id is the name of the service, made fit for the protocol, followed by "-job" and the
// number of the job. Below the endpoint (faas.Config.Endpoint), the protocol has:
//
//	PUT    /api/functions/{id}          the package, as application/zip, and X-Blueprint-Config
//	GET    /api/functions/{id}          what is deployed
//	GET    /api/functions/{id}/health
//	POST   /api/functions/{id}/invoke   {"job_id":n,"args":[...]}
//	POST   /api/functions/{id}/warm     optional
//	POST   /api/functions/{id}/restore  optional
//	GET    /api/functions/{id}/logs     optional
//	DELETE /api/functions/{id}
//
// X-Blueprint-Config holds memory, timeout, concurrency and environment.
//
// A service name that has other characters than lower-case letters, digits and dashes, or is too
// long, is cut and followed by a hash of the whole name, so that two services never share a
// function.
//
// The provider uses extensions if a platform has them; they do no harm on other platforms. A PUT
// carries X-Blueprint-Service (the service, percent-encoded except for visible ASCII),
// X-Blueprint-Fingerprint (of the configuration) and, if the function exists,
// X-Blueprint-If-Exists: replace. The answer to a GET may contain "service", "config_fingerprint",
// "package_sha256" (of the zip, in hex) and "features", a list of:
//
//   - "replace": a PUT replaces an existing function in one step
//   - "restore": see below
//   - "list": GET /api/functions?service=NAME answers {"functions":[...]}, with the answer to GET
//     for each function
//
// With these, a changed function is replaced without a gap. Without them, the old function is
// deleted right before the new one is put.
//
// A function that nothing has touched since it was deployed is not uploaded again. A platform
// without extensions does not report code and configuration. There, the revision in the function's
// state, made of "deployed_at", "binary_size_bytes", "memory_mb" and "timeout_secs", shows whether
// the function is the one in the ledger.
//
// If a platform's answer to an invocation has the header X-Blueprint-Features: raw, later
// invocations send the arguments as they are, in the raw form that docs/jobs.md describes, and the
// platform answers in that form. If the platform refuses that with 400, 405, 415 or 501, the
// provider sends the protocol's JSON instead, then and from then on.
//
// The list may also contain "features", and "limits": {"max_memory_mb", "max_timeout_secs",
// "max_payload_mb", "max_package_mb", "max_functions"}, which [Executor.Diagnose] reports.
//
// A platform that announces "restore" keeps what the last PUT replaced. It takes POST
// /api/functions/{id}/restore with {"package_sha256":"...","config_fingerprint":"..."}, and answers
// 200 when the function is that generation, even if it was already, and 404 or 409 if it does not
// have it. With it, a deployment that fails half-way puts back the functions that it had replaced.
// Without it, they stay as the deployment made them: faas.State.NotRestorable says so beforehand,
// and the error afterwards. If GET also reports a "revision", a PUT that replaces the function
// carries it as X-Blueprint-If-Revision, so that the platform can refuse a PUT that arrives after a
// restore.
//
// # Invoke-only platforms
//
// A platform that answers PUT with 404, 405 or 501 takes no deployments. The error is an
// ErrUnsupported that says what to do by hand. After that, with the option mode=invoke-only, a
// deployment only checks that each function answers; it creates, changes and removes nothing. Jobs
// are invoked with a POST to ENDPOINT/job/N, or to the addresses in the options invoke_url and
// invoke_urls, and a HEAD to the same address checks their health. A program that only invokes
// needs no option: the executor finds out by itself.
//
// # Options
//
// faas.Provider("custom") and docs/options.md list all options.
//
// # Credentials
//
// One of: a bearer token (option token, or else the environment variable FAAS_CUSTOM_TOKEN); OAuth
// 2.0 client credentials (with the secret from its option, or else from
// FAAS_CUSTOM_OAUTH2_CLIENT_SECRET); a user name and password in the endpoint. In addition, or
// instead: any header (option header), and a client certificate.
//
// Credentials are sent to the configured addresses only. Redirects are followed only for reads and
// only on the same host. Over plain http to another machine, neither a credential nor the value of
// an environment variable is sent unless allow_insecure is set. No error, log or formatted value
// contains one, in whatever encoding a platform repeats it; values shorter than four bytes are not
// searched for. The URLs of invoke_url and invoke_urls are part of the service's place and recorded
// with it: never put a credential in them.
//
// # Repeating and waiting
//
// Reads, uploads and deletions are repeated a few times while the platform cannot be reached, for
// half a minute while it answers that it is unavailable, and for up to two minutes if Retry-After
// says when to come back. Longer waits, and throttling (429), are left to the caller. An invocation
// is sent once, whatever happens; faas.Error.NotRun reports that it certainly did not run.
//
// After ctx has ended, the executor waits ten seconds for the answer to a change that was sent, and
// breaks off an upload that is not complete. If no answer comes, the error has faas.Error.Unsettled
// set. An upload that was never answered may create its function minutes later, except on a
// platform with "revision". [Executor.Remove] deletes such a function as soon as it sees it, or
// reports that it may still appear.
package custom
