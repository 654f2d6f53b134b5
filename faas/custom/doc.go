// Package custom is the provider "custom": any platform that speaks the custom FaaS platform protocol over HTTP.
//
// Importing it registers the provider with package faas; [New] makes an executor without the registry. It needs no SDK and has no build tag.
//
// # Protocol
//
// Below the endpoint (faas.Config.Endpoint), with the function id {id} that is the service's name, made fit for it, and "-job" and the job's number:
//
//	PUT    /api/functions/{id}          the package, as application/zip, with memory, timeout, concurrency and environment in X-Blueprint-Config
//	GET    /api/functions/{id}          what is deployed
//	GET    /api/functions/{id}/health
//	POST   /api/functions/{id}/invoke   {"job_id":n,"args":[...]}
//	POST   /api/functions/{id}/warm     where the platform offers it
//	POST   /api/functions/{id}/restore  where the platform offers it
//	GET    /api/functions/{id}/logs     where the platform offers it
//	DELETE /api/functions/{id}
//
// A service name that is not of lower-case letters, digits and dashes, or is too long, is cut and followed by a hash of the whole, so that two services never have
// a function in common.
//
// Extensions are used where a platform has them, and do no harm where it does not. A PUT carries X-Blueprint-Service (the service, with what is not
// visible ASCII percent-encoded), X-Blueprint-Fingerprint (of the configuration) and, if the function is there, X-Blueprint-If-Exists: replace. The answer to a GET may hold
// "service", "config_fingerprint", "package_sha256" (of the zip, in hex) and "features": a list of "replace" (a PUT replaces what is there in one step), "restore" and
// "list" (GET /api/functions?service=NAME answers {"functions":[...]} with what GET answers for each). With them a changed function is replaced without a gap.
// Without them the old function is deleted right before the new one is put.
//
// A function that nothing has touched since it was deployed is not uploaded again. A platform without extensions does not tell its code and configuration; there
// the revision in its state, made of "deployed_at", "binary_size_bytes", "memory_mb" and "timeout_secs", says whether it is the one that the ledger knows.
//
// A platform whose answers to invocations have the header X-Blueprint-Features: raw gets the arguments of the following ones as they are, in the raw
// form that docs/jobs.md describes, and answers in it. Should it refuse that with 400, 405, 415 or 501, the protocol's JSON is sent in its place, then and from then on.
//
// The list may also hold "features", and "limits": {"max_memory_mb", "max_timeout_secs", "max_payload_mb", "max_package_mb", "max_functions"}, which [Executor.Diagnose] tells.
//
// A platform that announces "restore" keeps what the last PUT replaced, and takes POST /api/functions/{id}/restore with
// {"package_sha256":"...","config_fingerprint":"..."}: 200 when the function is that, also if it was already, 404 or 409 where the platform does not have it. With it a
// deployment that fails half-way puts back the functions that it had replaced; without it they are left as the deployment made them: faas.State.NotRestorable says
// so beforehand, and the error afterwards. If GET also
// gives a "revision", a PUT that replaces the function carries it as X-Blueprint-If-Revision, so that the platform can refuse one that arrives after a restore.
//
// # Invoke-only platforms
//
// A platform that answers PUT with 404, 405 or 501 takes no deployments. The error is an ErrUnsupported that says what has to be done by hand. Afterwards the option
// mode=invoke-only makes deploying a check that each function answers; nothing is created, changed or removed. Jobs are invoked with a POST to ENDPOINT/job/N, or
// where the options invoke_url and invoke_urls say, and HEAD on the same address tells their health. A program that only invokes needs no option: an executor
// finds out by itself.
//
// # Options
//
// faas.Provider("custom") and docs/options.md have them all.
//
// # Credentials
//
// One of: a bearer token (option token, else the environment variable FAAS_CUSTOM_TOKEN); OAuth 2.0 client credentials (the secret from its option, else from
// FAAS_CUSTOM_OAUTH2_CLIENT_SECRET); a user name and password in the endpoint. Besides, or instead: any header (option header), and a client certificate. They are
// sent to the configured addresses alone: redirects are followed only for reads and only on the same host, and over plain http to another machine neither
// a credential nor the value of an environment variable is sent unless allow_insecure says so. No error, log or formatted value holds one, in whatever encoding a
// platform repeats it; what is shorter than four bytes is not looked for. The URLs of invoke_url and invoke_urls tell where a service is. They are recorded with it, and are
// no place for a credential.
//
// # Repeating and waiting
//
// Reads, uploads and deletions are repeated a few times while the platform cannot be reached, for half a minute while it answers that it is unavailable, and
// for up to two minutes while it says with Retry-After when to come back. A longer wait is left to the caller, and so is throttling (429). An
// invocation is sent once, whatever happens; faas.Error.NotRun says where it certainly did not run.
//
// The answer to a change that was sent is awaited for ten seconds after ctx has ended; an upload that is not whole yet is broken off. If no answer comes, the error
// has faas.Error.Unsettled set. An upload that was never answered may make its function appear minutes later, which a platform with "revision" prevents and no other
// does; [Executor.Remove] deletes it until it has seen it, or says that it may appear yet.
package custom
