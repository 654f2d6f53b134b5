// Package platform is an embedded FaaS platform: an [http.Handler] that speaks the custom FaaS
// platform protocol and runs real binaries on this machine. The embedding program can use the same
// functions without HTTP.
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
//	GET    /api/functions/{id}/logs    a line of JSON for each line that the function printed
//	POST   /api/functions/{id}/warm
//	POST   /api/functions/{id}/restore {"package_sha256":"...","config_fingerprint":"..."}
//	DELETE /api/functions/{id}
//
// The platform extends the protocol, and GET names the extensions in "features":
//
//   - PUT with "X-Blueprint-If-Exists: replace" replaces a function without dropping a call.
//   - "X-Blueprint-Fingerprint" and "X-Blueprint-Service" (percent-encoded) are kept. GET returns
//     them, together with the package's SHA-256.
//   - GET /api/functions lists all functions, or those of one service with ?service=, and the
//     platform's "limits".
//   - Arguments and output of an invocation may be sent as they are, in the raw form of
//     docs/jobs.md. Answers to invocations announce that with X-Blueprint-Features: raw.
//   - Warm accepts ?instances=n.
//   - A failed invocation also has "code" and "details".
//
// The platform keeps code and configuration of a replaced function until the function is replaced
// again or deleted. GET shows it as "previous". Restore activates the generation that it names
// without dropping a call. It answers 200 if that generation is live now, even if it was before,
// 404 if the function does not exist, and 409 if the generation is neither live nor the previous
// one. The generation that was live becomes the previous one. The fingerprint is part of a
// generation's name, so that only a function that was put with a fingerprint can be restored. A PUT
// that is still arriving when its function is restored is refused with 409. So is a PUT with
// "X-Blueprint-If-Revision: R" unless R is the "revision" that GET reports, or the function already
// is what the PUT would make it.
//
// A client that gives up a PUT and deletes the function can rely on the deletion even if the PUT
// arrives later. A PUT that is still arriving when its function is deleted is refused with 409,
// whether or not the function existed. For a PUT that arrives after the DELETE, GET of a function
// that does not exist answers 404 with a "revision" in "details", which changes with every DELETE
// of that id: a PUT that creates the function and names an older revision in
// X-Blueprint-If-Revision is refused with 409. (It is also refused if the platform was restarted in
// between; the client then asks again.) DELETE and restore with "X-Blueprint-Service: NAME" refuse
// the function of another service with 409.
//
// # How functions run
//
// A bootstrap that links faas/job keeps running and exchanges frames with the platform. It takes
// many calls at once; more processes are started when it is saturated, and idle ones are ended. Any
// other bootstrap, a shell script included, is started once per call, with the request on standard
// input and the answer on standard output.
//
// A function runs in a directory of its own, with links to the files of its package. Its
// environment has the variables of its deployment, PATH, HOME, TMPDIR, and a variable that
// identifies the platform's processes. It gets nothing else of this program's environment or open
// files. Every process leads a process group of its own. The whole group, and what has left it, is
// killed when a call times out, when the process ends, and when this program ends, even if this
// program is killed. An answer on standard output that is empty, not JSON, or a success without a
// result is a failure of the function.
//
// # Limits and isolation
//
// The platform limits memory, processes and threads, and open files of each process and everything
// it starts ([Limits], and memory_mb of the deployment), and turns core dumps off. On Linux it uses
// control groups if this program may make them; these also find and kill what has left its process
// group. Without them the platform watches its processes; on other systems than Linux these limits
// do not exist. New decides once, and [Platform.Isolation], the log and GET /metrics report the
// result. docs/platform.md describes how well each limit holds where.
//
// By default functions are not isolated from this program: they run as its user, see its files, its
// network and other processes, and share the machine's processors. As root, [WithUserRange] gives
// each function a user of its own, so that functions can read neither each other's files nor
// environments, and [WithNamespaces] takes away the network or the sight of other processes.
// [WithMemoryPerCPU] shares out the processors. None of this is a sandbox against code that attacks
// the kernel. Deploy only code that you would run yourself.
//
// # Logs
//
// Each line that a function writes to standard error goes to the logger of [WithLogger] as a record
// "function log" with the attributes function, pid and line. Control characters are escaped, and
// lines are cut at 4 KiB ("truncated"). If a function writes without end, only some lines become
// records, and one record says how many did not.
//
// The platform keeps the last lines of each function in memory, at most 1,000 and 64 KiB, until the
// function is removed or the platform is closed. [Executor.Logs] and GET /api/functions/{id}/logs
// return them, with a line for each process that failed. ?follow=true adds the lines to come;
// ?since=, ?until= (RFC 3339), ?limit= and ?after= (the "cursor" of a line) select lines.
//
// # Metrics
//
// GET /metrics answers in the text format of Prometheus, without linking any of it. For each
// function it reports how many calls ended how, a histogram of the durations of calls that ran
// (including the time they waited), cold starts, the time spent waiting, running and waiting calls,
// health, and processes with their peak memory. Counts survive a replacement, but not a removal or
// the end of the platform. GET /metrics requires the token if there is one, because it names
// services and functions; Prometheus sends it with "authorization: {credentials_file: ...}".
//
// # What is bounded
//
// The platform bounds the calls of a function that run (max_concurrency of its deployment) and that
// wait ([WithQueue]), the memory of large requests and answers of all functions together
// ([Limits].MaxBufferedMB), and the idle processes of all functions together ([WithMaxProcesses]).
// It refuses what exceeds a bound with 429 and Retry-After, before reading it if possible. An
// answer reserves its memory before it is read. If it has to wait, the later answers of its process
// wait with it; after 30 seconds it is lost.
//
// Whatever server the platform is behind, every body must arrive, and every large answer be taken,
// in time ([Limits].RequestTimeout, UploadTimeout). Connections that send no header, or half of
// one, are up to the server. [Platform.Server] has limits for them; any other server should set
// ReadHeaderTimeout, IdleTimeout, WriteTimeout and MaxHeaderBytes as it does, and limit the number
// of connections if strangers can connect.
//
// # Who may use it
//
// Without [WithToken], the platform serves only connections to a loopback address or a Unix socket,
// and only under a loopback host name, so that no web page can reach it through the browser of
// somebody on this machine; [Platform.Listen] refuses other addresses. With a token, every request
// requires it.
package platform
