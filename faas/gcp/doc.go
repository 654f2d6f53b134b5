// Package gcp is the provider "gcp-functions": Google Cloud Functions of the second generation that
// run a prebuilt binary.
//
// Importing the package registers the provider with package faas; [New] makes an executor without
// the registry. If a program imports the package through faas/all and is built with -tags
// faas_only, the provider is left out unless the tag faas_gcp is set too. Opening it then fails
// with an [faas.ErrNotLinked] that says so.
//
// # What is deployed
//
// Each job becomes one function, named after service and job. Its project is faas.Config.ProjectID,
// $GOOGLE_CLOUD_PROJECT, $CLOUDSDK_CORE_PROJECT, $GCLOUD_PROJECT, or that of the credentials' key.
// Its region is faas.Config.Region, $GCP_REGION, or us-central1. Cloud Functions builds functions
// from source and accepts no binaries. The package therefore holds the source of a small shim,
// which uses the standard library only, and the binary as "bootstrap". If the binary links
// faas/job, the shim's process becomes the binary before it does anything else. If the binary
// speaks only stdin and stdout, the shim serves HTTP and runs the binary once per invocation.
// Binaries are for linux/amd64, and are static or linked to glibc alone.
//
// A function's labels record its service, its job, and hashes of its code, configuration and
// provider options. An unchanged function therefore costs one read, and a package that is present
// is not uploaded again. Functions that share a package share one upload.
//
// Option mode=cloud-run deploys the binary as it is to Cloud Run. The binary comes from a bucket of
// the project (option bucket) and runs on one of Google's base images. This takes seconds and no
// Cloud Build, and requires a binary that links faas/job. The resources are verified against the
// public Cloud Run Admin API, version 2, including its fields sourceCode and baseImageUri. The
// default of option base_image, and this mode against Google itself, are not verified.
//
// # Restoring
//
// The executor keeps what it read of a function, including the environment, in memory. Restore
// writes that back: the source that Google keeps of the earlier build, pinned by its generation,
// the configuration, and the bindings of run.invoker that the executor changed. Google keeps the
// last few versions of a source.
//
// # Invoking
//
// A function is private: a caller needs an ID token for its URL. Service account keys, the metadata
// server and impersonation provide such tokens; user credentials do not (option
// impersonate_service_account helps). Option public lets everybody call the function, and option
// invokers lets those whom it names. An invocation is sent only once. faas.Error.NotRun says when
// it certainly did not run. Whether a call started an instance is unknown, so Metrics.ColdStart
// stays false.
//
// # Credentials
//
// The credentials are one of: Application Default Credentials, such as those of service accounts,
// workload identity, impersonation and the metadata server; a file (option credentials_file); those
// of [WithClientOptions]; or [WithTokenSource] and [WithIDTokenSource]. Calls are charged to the
// quota project of the credentials or to $GOOGLE_CLOUD_QUOTA_PROJECT. No error, log or formatted
// value holds a credential or the value of an environment variable. [Executor.Preflight] names
// missing APIs and permissions, and the gcloud commands that add them.
//
// # Emulators and private endpoints
//
// Options functions_endpoint, run_endpoint and storage_endpoint set the base URLs of the REST APIs.
// So do the variables of Google's own command line (CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDFUNCTIONS
// and the like). Plain http is allowed. With CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true, no credentials
// are sent.
//
// # Google's clients
//
// The package calls Cloud Functions through cloud.google.com/go/functions over REST. It calls the
// other APIs through the generated packages of google.golang.org/api, which speak only REST and
// come with the first: cloud.google.com/go/run and its sisters would each add a module and a gRPC
// client, and nothing that is used here. With -tags grpcnotrace a program is 9 MB smaller, see
// docs/benchmarks.md. Every call uses faas.Config.HTTPClient and the endpoints that options and
// variables name. Credentials, impersonation, quota projects and ID tokens come from
// cloud.google.com/go/auth; [WithClientOptions] passes options of google.golang.org/api/option.
//
// The package's own code does what no client does:
//   - the upload to the signed URL, and an invocation, which is sent at most once;
//   - waits that survive a look which fails;
//   - restoring, and changing a policy, in the API's own JSON, because a client drops what it does
//     not know;
//   - lists of functions under a context, which the client's iterator does not pass on;
//   - the end of an operation whose error has a detail that the client cannot read.
package gcp
