package platform

import (
	"log/slog"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Limits bound what the platform accepts. A zero field means the default. For those of AWS Lambda
// see https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html.
type Limits struct {
	MaxPackageMB  int // of an uploaded zip, in MiB; default 50
	MaxUnpackedMB int // of all files in it, in MiB; default 250
	MaxFiles      int // in it; default 10,000
	MaxPayloadMB  int // of arguments and of answers, in MiB, as bytes and not as JSON; default 16
	// of large requests and answers (over 64 KiB) in memory at a time, in MiB, three quarters of it
	// for requests; requests beyond it are refused with 429, answers wait; default 512
	MaxBufferedMB  int
	MaxFunctions   int    // deployed at a time; default 10,000
	MaxTimeoutSecs uint32 // of one invocation; default 900
	MaxMemoryMB    uint32 // of one process; default 10,240
	// processes and threads, of one process with all that it starts; default 1,024, as on AWS Lambda
	MaxTasks          int
	MaxOpenFiles      int           // of one process; default 1,024, as on AWS Lambda
	MaxConcurrency    uint32        // that a deployment may ask for; default 1,000
	UploadTimeout     time.Duration // for an upload to arrive; default 5 minutes
	RequestTimeout    time.Duration // for the body of any other request to arrive; default 30 seconds
	ReadHeaderTimeout time.Duration // of [Platform.Server]; default 10 seconds
}

// The configuration of a deployment that does not specify it.
const (
	DefaultMemoryMB       = 512
	DefaultTimeoutSecs    = 300
	DefaultMaxConcurrency = 100
	minMemoryMB           = 128
)

type options struct {
	dir          string
	token        string
	maxQueue     int
	maxWorkers   int
	maxProcesses int
	idleTimeout  time.Duration
	startTimeout time.Duration
	drainTimeout time.Duration
	limits       Limits
	logger       *slog.Logger
	confinement
}

// Option configures [New].
type Option func(*options)

// WithDir keeps everything in dir, and creates it if it does not exist. A later platform with the
// same directory has the same functions. Only one platform at a time can use a directory, which
// must be this user's or root's. The default is a temporary directory that Close removes.
func WithDir(dir string) Option { return func(o *options) { o.dir = dir } }

// WithToken requires "Authorization: Bearer token" of every request. Without it, the platform
// serves only loopback connections.
func WithToken(token string) Option { return func(o *options) { o.token = token } }

// WithQueue sets how many calls of a function may wait for their turn. Further calls are refused
// with ErrThrottled, 429 over HTTP. The default is 1,000.
func WithQueue(n int) Option { return func(o *options) { o.maxQueue = n } }

// WithMaxWorkers sets how many warm processes a function may have. The default is the number of
// processors, and at least 2.
func WithMaxWorkers(n int) Option { return func(o *options) { o.maxWorkers = n } }

// WithMaxProcesses sets a target for the number of processes of all functions together, so that
// many functions that are seldom called do not fill the machine. If a process has to start at or
// above it, the one that has been idle longest is ended. If none is idle, the number is exceeded.
// The default is 250.
func WithMaxProcesses(n int) Option { return func(o *options) { o.maxProcesses = n } }

// WithIdleTimeout sets how long a warm process stays without a call. The default is 5 minutes; a
// negative value means for ever.
func WithIdleTimeout(d time.Duration) Option { return func(o *options) { o.idleTimeout = d } }

// WithStartTimeout sets how long a warm process may take to become ready for calls. The default is
// 10 seconds.
func WithStartTimeout(d time.Duration) Option { return func(o *options) { o.startTimeout = d } }

// WithDrainTimeout sets how long Close waits for running calls before it cuts them off. The default
// is 10 seconds.
func WithDrainTimeout(d time.Duration) Option { return func(o *options) { o.drainTimeout = d } }

// WithLimits sets the limits of what the platform accepts.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithLogger logs deployments, failures and the functions' standard error. By default nothing is
// logged.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *options) setDefaults() error {
	setDefault(&o.maxQueue, 1000)
	setDefault(&o.maxProcesses, 250)
	setDefault(&o.idleTimeout, 5*time.Minute)
	setDefault(&o.drainTimeout, 10*time.Second)
	l := &o.limits
	setDefault(&l.MaxPackageMB, 50)
	setDefault(&l.MaxUnpackedMB, 250)
	setDefault(&l.MaxFiles, 10_000)
	setDefault(&l.MaxPayloadMB, 16)
	setDefault(&l.MaxBufferedMB, 512)
	setDefault(&l.MaxFunctions, 10_000)
	setDefault(&l.MaxTimeoutSecs, 900)
	setDefault(&l.MaxMemoryMB, 10_240)
	setDefault(&l.MaxConcurrency, 1_000)
	setDefault(&l.MaxTasks, 1_024)
	setDefault(&l.MaxOpenFiles, 1_024)
	setDefault(&l.UploadTimeout, 5*time.Minute)
	setDefault(&l.RequestTimeout, 30*time.Second)
	setDefault(&l.ReadHeaderTimeout, 10*time.Second)
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"WithQueue", int64(o.maxQueue)},
		{"WithMaxWorkers", int64(o.maxWorkers)}, {"WithMaxProcesses", int64(o.maxProcesses)},
		{"WithStartTimeout", int64(o.startTimeout)}, {"WithDrainTimeout", int64(o.drainTimeout)},
		{"Limits.MaxPackageMB", int64(l.MaxPackageMB)}, {"Limits.MaxUnpackedMB", int64(l.MaxUnpackedMB)},
		{"Limits.MaxFiles", int64(l.MaxFiles)},
		{"Limits.MaxPayloadMB", int64(l.MaxPayloadMB)}, {"Limits.MaxBufferedMB", int64(l.MaxBufferedMB)},
		{"Limits.MaxTasks", int64(l.MaxTasks)}, {"Limits.MaxOpenFiles", int64(l.MaxOpenFiles)},
		{"Limits.MaxFunctions", int64(l.MaxFunctions)}, {"Limits.UploadTimeout", int64(l.UploadTimeout)},
		{"Limits.RequestTimeout", int64(l.RequestTimeout)}, {"Limits.ReadHeaderTimeout", int64(l.ReadHeaderTimeout)},
	} {
		if n.value < 0 {
			return faas.Errorf(faas.ErrInvalidArgument, "open", providerName, "%s is negative", n.name)
		}
	}
	if l.MaxPayloadMB > 60 { // as JSON and as a frame it has to stay below 256 MiB
		return faas.Errorf(faas.ErrInvalidArgument, "open", providerName, "Limits.MaxPayloadMB is %d, the most is 60",
			l.MaxPayloadMB)
	}
	return o.confinement.check()
}
