// Package gcp is the provider "gcp-functions": Google Cloud Functions of the second generation, with a prebuilt binary in them.
//
// Importing it registers the provider with package faas; [New] makes an executor without the registry. A program that imports it through faas/all and is
// built with -tags faas_only leaves it out, unless the tag faas_gcp is given too; opening it then is a [faas.ErrNotLinked] that says so.
//
// # What is deployed
//
// One function per job, named after service and job, in the project of faas.Config.ProjectID, $GOOGLE_CLOUD_PROJECT, $CLOUDSDK_CORE_PROJECT, $GCLOUD_PROJECT, or the
// key of the credentials, and in the region of faas.Config.Region, $GCP_REGION, or us-central1. Cloud Functions builds functions from source and takes no binaries. So the package is the source of a small shim of the standard library
// and, beside it, the binary as "bootstrap". A binary that links faas/job is what the shim's process becomes before it does anything else; around one that speaks
// only stdin and stdout the shim serves HTTP and runs it once per invocation. Binaries are for linux/amd64, static or linked to glibc alone.
//
// Labels of a function tell its service, its job, and what code, configuration and provider options it has, so that an unchanged function costs one read and a
// package that is there already is not uploaded again. Functions that share a package share one upload.
//
// Option mode=cloud-run deploys the binary as it is to Cloud Run, from a bucket of the project (option bucket) onto a base image of Google's, without Cloud Build
// and in seconds. It needs a binary that links faas/job. What was verified of it: the resources are those of the Cloud Run Admin API, version 2, whose
// fields sourceCode and baseImageUri are public. What was not: the default of option base_image, and this mode against Google itself.
//
// # Putting back
//
// The executor keeps in memory what it read of a function, the environment included, and Restore writes that back: the source that Google keeps of the
// earlier build, pinned by its generation, the configuration, and the bindings of run.invoker that the executor changed. Google keeps the last few versions of a source.
//
// # Invoking
//
// A function is private: it is called with an ID token for its URL, which service account keys, the metadata server and impersonation give, and user credentials do
// not (option impersonate_service_account helps). Option public lets everybody call it, option invokers whom it names. An invocation is sent once, whatever
// happens; faas.Error.NotRun says where it certainly did not run. Whether a call started an instance is not known, so Metrics.ColdStart stays false.
//
// # Credentials
//
// Application Default Credentials, as of service accounts, workload identity, impersonation and the
// metadata server; a file (option credentials_file); what [WithClientOptions] says; or
// [WithTokenSource] and [WithIDTokenSource]. Calls are counted for the quota project of the
// credentials or of $GOOGLE_CLOUD_QUOTA_PROJECT. No error, log or formatted value holds a
// credential or the value of an environment variable. [Executor.Preflight] tells which APIs and
// permissions are missing, and the gcloud commands that mend it.
//
// # Emulators and private endpoints
//
// Options functions_endpoint, run_endpoint and storage_endpoint, or the variables of Google's own command line (CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDFUNCTIONS
// and the like), are base URLs of the REST APIs; plain http is allowed. CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true sends no credentials at all.
//
// # Google's clients
//
// Cloud Functions is called by cloud.google.com/go/functions over REST, the other APIs by the
// generated packages of google.golang.org/api, which speak only REST and come with the first:
// cloud.google.com/go/run and its sisters would add a module each and their gRPC clients, and
// nothing that is used here. A program is 9 MB smaller with -tags grpcnotrace, see
// docs/benchmarks.md. Every call goes over faas.Config.HTTPClient and to the endpoints that options
// and variables name. Credentials, impersonation, quota projects and ID tokens are those of
// cloud.google.com/go/auth; [WithClientOptions] passes options of google.golang.org/api/option.
//
// Own code does what no client does:
//   - the upload to the signed URL, and an invocation, which is sent once at most;
//   - waits that a look which fails does not end;
//   - putting back, and changing a policy, in the API's own JSON: a client drops what it does not know;
//   - lists of functions under a context, which the client's iterator does not pass on;
//   - the end of an operation whose error has a detail that the client cannot read.
package gcp
