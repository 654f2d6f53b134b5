// Package job makes a program a job binary that runs on every provider. The program hands its
// jobs to [Main], which reads the environment and speaks the protocol of the place where it runs:
//
//	environment                              protocol
//	BLUEPRINT_JOB_PROTOCOL=frames/1          frames on stdin and stdout, from the embedded platform
//	BLUEPRINT_JOB_PROTOCOL=runner/1/PID      frames too, if process PID started this one as a runner
//	BLUEPRINT_JOB_PROTOCOL=stdio             one request on stdin, one response on stdout
//	AWS_LAMBDA_RUNTIME_API                   Lambda Runtime API
//	FUNCTIONS_CUSTOMHANDLER_PORT             HTTP on 127.0.0.1, that port (Azure custom handler)
//	K_SERVICE and PORT                       HTTP on all interfaces, that port (Cloud Run functions)
//	none of these                            one request on stdin, one response on stdout
//
// The first row that fits decides. A value of BLUEPRINT_JOB_PROTOCOL that this package does not
// know is an error. Command-line arguments are ignored.
//
// # A blueprint binary that is its own job handler
//
// The executable that runs a service may also be its job binary. It asks [Requested] first, and
// is a runner if nothing requests a job handler:
//
//	func main() {
//		if job.Requested() || len(os.Args) > 1 && os.Args[1] == "job" {
//			job.Main(jobs) // does not return
//		}
//		runService()
//	}
//
// Besides its own work, the runner may answer what the service's deployer invokes of the jobs
// that are not on FaaS, so that both share the runner's memory. If it does not, these jobs cannot
// be invoked from outside, and the runner gets them only from the chain:
//
//	if job.Offered() {
//		go job.Run(ctx, jobs)
//	}
//
// Every host of this module asks for its protocol in the environment. A host of another kind,
// which starts the program and writes one request to its stdin, looks like a plain start. For
// such a host, give the program another way to ask, such as the argument above, or make the job
// binary a program of its own.
//
// # What all protocols have in common
//
// A request and the two kinds of response are JSON:
//
//	{"job_id":n,"args":[bytes as numbers]}
//	{"job_id":n,"result":[...],"success":true,"execution_ms":t,"memory_used_mb":m}
//	{"job_id":n,"result":[],"success":false,"error":"..."}
//
// A request may have {"base64":"..."} in place of the list; the response then has it too. Frames
// carry bytes as they are, and so does the raw form of HTTP, a POST with this Content-Type:
//
//	application/octet-stream; blueprint=1; job=n; size=s; first=b
//
// Here b is the first byte of the arguments, which the body replaces by a NUL. The answer to
// {"warm":true} is {"warm":true}, without running a job ([faas.WarmRequest]).
//
// Calls run concurrently if the protocol delivers them so. A handler that panics or calls
// runtime.Goexit fails only its own call, and its stack goes to stderr. A panic on a goroutine
// that the handler started ends the process, as anywhere in Go. Each call gets exactly one
// answer, sent when the handler has returned. This package ends a call's context, but cannot end
// a handler that does not heed it.
//
// # Frames
//
// The process stays warm and takes up to [ConcurrencyEnv] calls at a time. At the end of its
// input it finishes the calls in flight and exits with code 0. Arguments and output are limited
// to 256 MiB. Stdin and stdout are moved to other file descriptors, so that what a job prints
// goes to stderr, also from C code and child processes (on Windows only what goes through
// os.Stdout).
//
// # Lambda
//
// The event is a request and the function's answer a response, of at most 6 MiB. A failed call is
// a function error with errorType JobFailed, JobPanic, UnknownJob, BadRequest, TooLarge or
// Cancelled, and the process continues. The context carries Lambda's deadline and lambdacontext.
// The build option -tags lambda.norpc leaves support for the retired go1.x runtime out of
// aws-lambda-go, which makes the executable a quarter smaller.
//
// # HTTP
//
// A call is a POST with a request, on any path, since the body names the job. The status is 200
// for a response with success and 500 for one without. With a body {"error","code","details"} it
// is 400 for a malformed request, 404 for an unknown job, and 413 for a request above 32 MiB
// (Azure: 100 MiB). A response above that limit is a failure with the code TOO_LARGE. The
// response to a request in the raw form, if it is a success, is the bare output with this
// Content-Type:
//
//	application/octet-stream; blueprint=1; job=n; size=s; execution_ms=t; memory_mb=m
//
// GET / and GET /healthz, and HEAD on any path, answer 200. If a client goes away, its call's
// context ends. On SIGTERM and SIGINT the process finishes its calls, for at most 9 s, and exits.
//
// On Azure, a request in the host's envelope gets an answer in an envelope, so that host.json
// need not ask for forwarding: {"Data","Metadata"} gets
// {"Outputs":{"res":...},"Logs","ReturnValue"} for an HTTP trigger. For another trigger, such as
// a queue's, the item is the request and the response becomes the ReturnValue. A failure is
// status 500, after which the host may try again.
//
// # Stdin and stdout
//
// The request, of at most 256 MiB, ends with the end of stdin. The exit code is 0 after a
// successful response, 1 after one that says why the job failed, and 2 after one that says why
// nothing could run. A host can therefore rely on stdout alone, or on the exit code alone, in
// which case stderr has the reason. What a job prints goes to stderr, as with frames.
package job
