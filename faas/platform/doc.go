// Package platform is a FaaS platform in a library: an [http.Handler] that speaks the custom FaaS platform protocol and runs real binaries on this
// machine, and the same functions without HTTP for the program that embeds it.
//
//	p, err := platform.New()
//	...
//	defer p.Close()
//	http.ListenAndServe("127.0.0.1:8080", p)
//
// # Protocol
//
//	PUT    /api/functions/{id}         deploy a zip with an executable named bootstrap at its root
//	GET    /api/functions/{id}         what is deployed
//	POST   /api/functions/{id}/invoke  {"job_id":n,"args":[bytes]}
//	GET    /api/functions/{id}/health
//	GET    /api/functions/{id}/logs    a line of JSON for each line that it printed
//	POST   /api/functions/{id}/warm
//	POST   /api/functions/{id}/restore {"package_sha256":"...","config_fingerprint":"..."}
//	DELETE /api/functions/{id}
//
// Beyond the protocol: PUT with "X-Blueprint-If-Exists: replace" replaces a function without dropping a call, "X-Blueprint-Fingerprint" and
// "X-Blueprint-Service" (percent-encoded) are kept and given back by GET with the package's SHA-256, and GET /api/functions lists what there
// is, of one service with ?service=, and the platform's "limits". GET names these in "features". An invocation may
// have its arguments and its output as they are, in the raw form of docs/jobs.md, which the answers to invocations announce with X-Blueprint-Features: raw. Warm takes ?instances=n. A failed invocation also has "code" and "details".
//
// A function that was replaced is kept, code and configuration, until it is replaced again or deleted; GET shows it as "previous". Restore makes the generation that
// it names live again without dropping a call: 200 when that is live, also if it was already, 404 where there is no such function, and 409 where that generation is
// neither live nor the previous one. What it takes out of service becomes the previous one. A generation is named by its fingerprint too, so that only a function
// that was put with one can be restored. A PUT that is still being received when its function is restored is refused with 409. So is one with
// "X-Blueprint-If-Revision: R" unless R is the "revision" that GET gives, or the function already is what the PUT would make it.
//
// A client that gives up a PUT and deletes the function can rely on that, although the PUT may arrive later: one that is still being received when its function is
// deleted, whether that was there or not, is refused with 409. For one that is not there yet GET answers 404 with a "revision" in "details", which changes with every DELETE of
// that id; a PUT that creates the function and names it in X-Blueprint-If-Revision is refused with 409 if it arrives after the DELETE. (It is also refused when the platform was started
// again in between; the client asks again then.) DELETE and restore with "X-Blueprint-Service: NAME" refuse, with 409, the function of another service.
//
// # How functions run
//
// A bootstrap that links faas/job is kept running and spoken to in frames: it takes many calls at once, more processes are started when it is
// saturated, and idle ones are ended. Any other, a shell script too, is started once per call, with the request on standard input and the answer on standard output.
//
// A function runs in a directory of its own with links to the files of its package, with the variables of its deployment, PATH, HOME and TMPDIR, and one that tells the platform's processes apart, and
// nothing else of this program's environment or open files. Every process is the leader of its own process group, which is killed as a whole, with what has left it, when a call times out, when the process
// ends, and when this program ends, killed or not. An answer on standard output that is empty, no JSON or a success without a result is a failure of the function.
//
// # Limits and isolation
//
// Memory, processes and threads, and open files of each process with what it starts are limited ([Limits], and memory_mb of the deployment), and core dumps are off. On Linux the
// platform uses control groups of version 2 if this program may make some; what has left its process group is then killed with it all the same.
// Elsewhere it watches, and on other systems than Linux there are no such limits. It looks once, in New, and [Platform.Isolation], the log and GET /metrics say what it found.
// docs/platform.md tells what holds how well where.
//
// What is not isolated by default: functions run as this program's user, see its files, its network and the other processes, and share the machine's processors. As root,
// [WithUserRange] gives each function a user, so that they can neither read each other's files nor environments, and [WithNamespaces] takes the network or the sight of other
// processes away; [WithMemoryPerCPU] shares out the processors. None of that is a sandbox against code that attacks the kernel. Deploy only code that you would run yourself.
//
// # Logs
//
// What a function writes to its standard error goes, line by line, to the logger of [WithLogger] as records "function log" with the attributes function, pid and line. Control
// characters are written as escapes, lines are cut at 4 KiB ("truncated"), and of a function that writes without end only some lines become records, with one that
// says how many did not. The last lines of each function, at most 1,000 and 64 KiB, are kept in memory until it is removed or the platform is closed: [Executor.Logs] and GET /api/functions/{id}/logs
// show them, with a line for each process that did not end as it should, and with ?follow=true those that come. ?since=, ?until= (RFC 3339), ?limit= and ?after= (the "cursor" of a line) say which.
//
// # Metrics
//
// GET /metrics answers in the text format of Prometheus, without linking anything of it: per function how many calls ended how, a histogram of how long those took
// that ran with the time they waited, cold starts, the time spent waiting, calls that run and wait, health, and processes with their peak memory. Counts outlive a replacement, not a
// removal nor the platform. It needs the token, where there is one, because it names services and functions; Prometheus sends it with "authorization: {credentials_file: ...}".
//
// # What is bounded
//
// Calls of a function that run ([WithMaxConcurrency]) and wait ([WithQueue]); large requests and answers in memory, of all functions together ([Limits].MaxBufferedMB); idle
// processes, of all functions together ([WithMaxProcesses]). What is beyond is refused with 429 and Retry-After, before it is read where that can be known. An answer takes its memory before it
// is read, and waits for it up to 30 seconds, while the answers of its process do that come after it; it is lost then.
//
// Every body has to arrive, and every large answer to be taken, in time ([Limits].RequestTimeout, UploadTimeout), whatever server the platform is behind. Connections that send no or half a
// header are the server's: [Platform.Server] has limits for them; any other should set ReadHeaderTimeout, IdleTimeout, WriteTimeout and MaxHeaderBytes as it does, and limit
// the number of connections where strangers can connect.
//
// # Who may use it
//
// Without [WithToken] only connections to a loopback address (or a Unix socket) are served, and only under a loopback host name, so that no web page
// can reach the platform through the browser of somebody on this machine; [Platform.Listen] refuses other addresses. With a token, every request needs it.
package platform
