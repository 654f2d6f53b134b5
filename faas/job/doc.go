// Package job makes a program a job binary that runs on every provider. The program hands its jobs to [Main], which looks at the
// environment and speaks the protocol of the place it finds itself in:
//
//	environment                              protocol
//	BLUEPRINT_JOB_PROTOCOL=frames/1          frames on stdin and stdout, from the embedded platform
//	BLUEPRINT_JOB_PROTOCOL=runner/1/PID      the same, from the process PID if that started this one, which is a service's runner
//	BLUEPRINT_JOB_PROTOCOL=stdio             one request on stdin, one response on stdout, from profile.Measure
//	AWS_LAMBDA_RUNTIME_API                   Lambda Runtime API
//	FUNCTIONS_CUSTOMHANDLER_PORT             HTTP on 127.0.0.1, that port (Azure custom handler)
//	K_SERVICE and PORT                       HTTP on all interfaces, that port (Cloud Run functions)
//	none of these                            one request on stdin, one response on stdout, too
//
// The first row that fits decides. A value of BLUEPRINT_JOB_PROTOCOL that this package does not know is an error. Command-line arguments mean nothing
// here.
//
// # A blueprint binary that is its own job handler
//
// The executable that runs a service may be its job binary, too. It asks [Requested] first, and is a runner where nobody wants a job handler:
//
//	func main() {
//		if job.Requested() || len(os.Args) > 1 && os.Args[1] == "job" {
//			job.Main(jobs) // does not return
//		}
//		runService()
//	}
//
// What the service's deployer invokes of the jobs that are not on FaaS, the runner may answer beside its own work, so that they share its memory; else
// they cannot be invoked from outside, and the chain is where the runner gets them from:
//
//	if job.Offered() {
//		go job.Run(ctx, jobs)
//	}
//
// Every host of this module says what it wants by the environment. Another host, which just starts the program and writes one request to its stdin, cannot
// be told from a plain start: for those, give the program a way to ask for it, such as the argument above, or make the job binary a program of its own.
//
// # What all protocols have in common
//
// A request is the JSON {"job_id":n,"args":[bytes as numbers]}, and a response
// {"job_id":n,"result":[...],"success":true,"execution_ms":t,"memory_used_mb":m} or {"job_id":n,"result":[],"success":false,"error":"..."}. In place of
// the list there may be {"base64":"..."}, and is then in the response as well. Frames carry bytes as they are, and so does the raw form of HTTP: a POST with
// Content-Type: application/octet-stream; blueprint=1; job=n; size=s; first=b, where b is the first byte of the arguments, in whose place the body has a NUL.
// {"warm":true} instead of a request is answered with itself, without running a job ([faas.WarmRequest]).
//
// Calls run concurrently where the protocol delivers them so. A handler that panics, or calls runtime.Goexit, fails that call only, and its stack
// goes to stderr; a panic on a goroutine that the handler starts ends the process, as anywhere in Go. There is exactly one answer to each call, and
// it is sent when the handler has returned: this package gives a call's context an end, but nothing can end a handler that does not look at it.
//
// # Frames
//
// The process stays warm and takes as many calls at a time as [ConcurrencyEnv] says. The end of its input makes it finish the calls in flight and
// exit with code 0. Arguments and output are limited to 256 MiB. Stdin and stdout are moved to other file descriptors, so that what a job prints goes
// to stderr, also from C code and child processes (on Windows only what goes through os.Stdout).
//
// # Lambda
//
// The event is a request and the function's answer a response, of at most 6 MiB. A failed call is a function error, with errorType JobFailed,
// JobPanic, UnknownJob, BadRequest, TooLarge or Cancelled, and the process lives on. The context carries Lambda's deadline and lambdacontext.
// Building with -tags lambda.norpc leaves support for the long-gone go1.x runtime out of aws-lambda-go, and makes the executable a quarter smaller.
//
// # HTTP
//
// POST with a request, on any path, since the body names the job; the status is 200 for a response with success, 500 for one without, and with
// {"error","code","details"} 400 for a malformed request, 404 for an unknown job, and 413 above 32 MiB (Azure: 100 MiB). A response above that limit
// is a failure, with the code TOO_LARGE. A response with success to a request in the raw form is the output alone, with its Content-Type:
// application/octet-stream; blueprint=1; job=n; size=s; execution_ms=t; memory_mb=m. GET / and GET /healthz, and HEAD on any path, answer 200. A client that goes away ends its call's context. SIGTERM and SIGINT make
// the process finish what it has, for at most 9 s, and exit.
//
// On Azure, requests in the host's envelope are answered in kind, so that host.json need not ask for forwarding: {"Data","Metadata"} with
// {"Outputs":{"res":...},"Logs","ReturnValue"} for an HTTP trigger. For another trigger, such as a queue's, the item is the request, the response
// becomes the ReturnValue, and a failure is status 500, after which the host may try again.
//
// # Stdin and stdout
//
// The request, of at most 256 MiB, ends with the end of stdin. The exit code is 0 with a response of success, 1 with one that says why the job
// failed, and 2 with one that says why there was nothing to run. So a host that looks at stdout alone is right, and so is one that looks at the exit
// code alone, to which stderr gives the reason. What a job prints goes to stderr, as with frames.
package job
