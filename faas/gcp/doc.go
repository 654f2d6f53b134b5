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
// Application Default Credentials, as of service accounts, workload identity, impersonation and the metadata server; a file (option credentials_file); or
// [WithTokenSource] and [WithIDTokenSource]. No error, log or formatted value holds a credential or the value of an environment variable.
// [Executor.Preflight] tells which APIs and permissions are missing, and the gcloud commands that mend it.
//
// # Emulators and private endpoints
//
// Options functions_endpoint, run_endpoint and storage_endpoint, or the variables of Google's own command line (CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDFUNCTIONS
// and the like), are base URLs of the REST APIs; plain http is allowed. CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true sends no credentials at all.
//
// # Why no SDK
//
// The APIs are called over REST with net/http, and of Google's libraries only those for credentials are linked: golang.org/x/oauth2 and
// cloud.google.com/go/compute/metadata. Measured as a stripped program that calls the same methods and gets the same tokens, with Go 1.26 on linux/amd64:
//
//	                                          size     packages  modules  CPU time of a first build
//	net/http and golang.org/x/oauth2           7.1 MB  206        2        37 s
//	google.golang.org/api (REST)              15.5 MB  439       27        69 s
//	cloud.google.com/go/functions over REST   17.3 MB  481       35        75 s
//	cloud.google.com/go/functions over gRPC   17.8 MB  (only its size was measured)
package gcp
