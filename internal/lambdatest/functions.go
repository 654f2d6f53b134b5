package lambdatest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// configuration is what Lambda reports of a function or version, with the member names of the API.
type configuration struct {
	FunctionName     string
	FunctionArn      string
	Version          string
	Runtime          string
	Role             string
	Handler          string
	Description      string
	CodeSha256       string
	CodeSize         int64
	Timeout          int
	MemorySize       int
	LastModified     string
	RevisionId       string
	PackageType      string
	Architectures    []string
	Environment      *environment `json:",omitempty"`
	EphemeralStorage struct{ Size int }
	TracingConfig    struct{ Mode string }
	LoggingConfig    struct{ LogFormat, LogGroup string }
	VpcConfig        *vpcConfig `json:",omitempty"`
	Layers           []layer    `json:",omitempty"`
	KMSKeyArn        string     `json:",omitempty"`
	SnapStart        struct{ ApplyOn, OptimizationStatus string }

	State                      string
	StateReason                string `json:",omitempty"`
	StateReasonCode            string `json:",omitempty"`
	LastUpdateStatus           string `json:",omitempty"`
	LastUpdateStatusReason     string `json:",omitempty"`
	LastUpdateStatusReasonCode string `json:",omitempty"`

	code   *code
	roleID string // of the role for which Lambda has its grants
}

type environment struct{ Variables map[string]string }
type vpcConfig struct {
	SubnetIds, SecurityGroupIds []string
	VpcId                       string
}
type layer struct {
	Arn      string
	CodeSize int64
}

// code is an unpacked package.
type code struct {
	sha256 string // base64
	size   int64
	dir    string
}

// function is one function with everything it has.
type function struct {
	latest      configuration
	versions    map[int]*configuration
	newest      int // number of the newest version
	unpublished bool
	aliases     map[string]*alias
	tags        map[string]string
	reserved    *int
	provisioned map[string]*provisioned

	until   time.Time // of the transition
	failure *failure  // how the transition ends
	undo    func()    // takes back the update that the transition is for

	serving *configuration // what invocations run while an update is in progress

	before *function // what stale reads see
	stale  int
}

type failure struct{ code, reason string }

type alias struct {
	AliasArn, Name, FunctionVersion, Description, RevisionId string
	RoutingConfig                                            *routing `json:",omitempty"`

	moving time.Time // until when it shows the weights of a move
	from   string    // the version that it was moved from
	before *alias    // what stale reads see, nil for none
	stale  int
	unseen int // how many invocations do not find it
}
type routing struct{ AdditionalVersionWeights map[string]float64 }

type provisioned struct {
	requested int
	ready     time.Time
	failure   string
	modified  string
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

func (s *Server) lambdaRoutes() []route {
	const functions = "/2015-03-31/functions"
	return []route{
		{"POST", functions, "CreateFunction", 201, s.createFunction},
		{"GET", functions, "ListFunctions", 200, s.listFunctions},
		{"GET", "/2016-08-19/account-settings", "GetAccountSettings", 200, s.accountSettings},
		{"GET", functions + "/{FunctionName}", "GetFunction", 200, s.getFunction},
		{"DELETE", functions + "/{FunctionName}", "DeleteFunction", 204, s.on(s.deleteFunction)},
		{"GET", functions + "/{FunctionName}/configuration", "GetFunctionConfiguration", 200, s.getFunctionConfiguration},
		{"PUT", functions + "/{FunctionName}/configuration", "UpdateFunctionConfiguration", 200,
			s.updateFunctionConfiguration},
		{"PUT", functions + "/{FunctionName}/code", "UpdateFunctionCode", 200, s.updateFunctionCode},
		{"POST", functions + "/{FunctionName}/versions", "PublishVersion", 201, s.on(s.publishVersion)},
		{"GET", functions + "/{FunctionName}/versions", "ListVersionsByFunction", 200, s.listVersions},
		{"POST", functions + "/{FunctionName}/aliases", "CreateAlias", 201, s.on(s.createAlias)},
		{"GET", functions + "/{FunctionName}/aliases", "ListAliases", 200, s.on(s.listAliases)},
		{"GET", functions + "/{FunctionName}/aliases/{Name}", "GetAlias", 200, s.getAlias},
		{"PUT", functions + "/{FunctionName}/aliases/{Name}", "UpdateAlias", 200, s.updateAlias},
		{"DELETE", functions + "/{FunctionName}/aliases/{Name}", "DeleteAlias", 204, s.deleteAlias},
		{"POST", functions + "/{FunctionName}/invocations", "Invoke", 200, s.invoke},
		{"PUT", "/2017-10-31/functions/{FunctionName}/concurrency", "PutFunctionConcurrency", 200, s.on(s.putConcurrency)},
		{"DELETE", "/2017-10-31/functions/{FunctionName}/concurrency", "DeleteFunctionConcurrency", 204,
			s.on(s.deleteConcurrency)},
		{"PUT", "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "PutProvisionedConcurrencyConfig", 202,
			s.on(s.putProvisioned)},
		{"GET", "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "GetProvisionedConcurrencyConfig", 200,
			s.on(s.getProvisioned)},
		{"DELETE", "/2019-09-30/functions/{FunctionName}/provisioned-concurrency", "DeleteProvisionedConcurrencyConfig", 204,
			s.on(s.deleteProvisioned)},
		{"POST", "/2017-03-31/tags/{Resource}", "TagResource", 204, s.on(s.tagResource)},
		{"GET", "/2017-03-31/tags/{Resource}", "ListTags", 200, s.on(s.listTags)},
		{"DELETE", "/2017-03-31/tags/{Resource}", "UntagResource", 204, s.on(s.untagResource)},
	}
}

// on serves an operation on a function that exists, and holds the lock.
func (s *Server) on(serve func(request, *function) (answer, *apiError)) func(request) (answer, *apiError) {
	return func(r request) (answer, *apiError) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f, err := s.find(r.name)
		if err != nil {
			return answer{}, err
		}
		return serve(r, f)
	}
}

// input is the body of the requests that create and update functions.
type input struct {
	FunctionName     string
	Role             *string
	Runtime          *string
	Handler          *string
	Description      *string
	Timeout          *int
	MemorySize       *int
	PackageType      string
	Publish          bool
	Architectures    []string
	Environment      *environment
	EphemeralStorage *struct{ Size int }
	TracingConfig    *struct{ Mode string }
	LoggingConfig    *struct{ LogFormat string }
	VpcConfig        *vpcConfig
	Layers           *[]string
	KMSKeyArn        *string
	Tags             map[string]string
	RevisionId       string
	CodeSha256       string
	packageSource
	Code packageSource
}

type packageSource struct {
	ZipFile         []byte
	S3Bucket, S3Key string
	DryRun          bool
}

func parse[T any](r request) (T, *apiError) {
	var in T
	if len(r.body) == 0 {
		return in, nil
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	if err := d.Decode(&in); err != nil {
		return in, failf(400, "SerializationException", "%v", err)
	}
	return in, nil
}

func invalid(format string, args ...any) *apiError {
	return failf(400, "InvalidParameterValueException", format, args...)
}

// find returns the present state of a function. The caller holds the lock.
func (s *Server) find(name string) (*function, *apiError) {
	f := s.functions[name]
	if f == nil {
		return nil, failf(404, "ResourceNotFoundException", "Function not found: %s", s.arn(name))
	}
	s.advance(f)
	return f, nil
}

// advance ends a transition whose time has come.
func (s *Server) advance(f *function) {
	if f.until.IsZero() || time.Now().Before(f.until) {
		return
	}
	f.until = time.Time{}
	f.latest.RevisionId = s.nextRevision()
	if f.latest.State == "Pending" {
		f.latest.State, f.latest.StateReason, f.latest.StateReasonCode = "Active", "", ""
		if f.failure != nil {
			f.latest.State, f.latest.StateReasonCode, f.latest.StateReason = "Failed", f.failure.code, f.failure.reason
		}
	}
	f.latest.LastUpdateStatus, f.latest.LastUpdateStatusReason, f.latest.LastUpdateStatusReasonCode = "Successful", "", ""
	if f.failure != nil {
		if f.undo != nil {
			f.undo() // the function stays as it was
		}
		f.latest.LastUpdateStatus, f.latest.LastUpdateStatusReasonCode, f.latest.LastUpdateStatusReason = "Failed",
			f.failure.code, f.failure.reason
	}
	f.failure, f.undo, f.serving = nil, nil, nil
}

func (s *Server) nextRevision() string {
	s.revision++
	return fmt.Sprintf("%08d-0000-4000-8000-000000000000", s.revision)
}

// remember keeps the state that reads may still see for a while.
func (s *Server) remember(name string, f *function) {
	if s.config.StaleReads == 0 || f == nil {
		return
	}
	kept := *f
	kept.versions, kept.aliases, kept.tags = maps.Clone(f.versions), maps.Clone(f.aliases), maps.Clone(f.tags)
	kept.before = nil
	f.before, f.stale = &kept, s.config.StaleReads
}

// busy refuses a change during a transition.
func (f *function) busy() *apiError {
	switch {
	case f.latest.State == "Pending":
		return failf(409, "ResourceConflictException",
			"The operation cannot be performed at this time. The function is currently in the following state: Pending")
	case f.latest.LastUpdateStatus == "InProgress":
		return failf(409, "ResourceConflictException",
			"The operation cannot be performed at this time. An update is in progress for resource: %s", f.latest.FunctionArn)
	}
	return nil
}

func (s *Server) createFunction(r request) (answer, *apiError) {
	in, err := parse[input](r)
	if err != nil {
		return answer{}, err
	}
	switch {
	case in.Role == nil || in.FunctionName == "":
		return answer{}, failf(400, "ValidationException", "FunctionName and Role are required")
	case len(in.FunctionName) > 64:
		return answer{}, invalid("1 validation error detected: Value '%s' at 'functionName' failed to satisfy "+
			"constraint: Member must have length less than or equal to 64", in.FunctionName)
	case in.PackageType != "" && in.PackageType != "Zip":
		return answer{}, invalid("only packages of type Zip are known here")
	case in.Runtime == nil || in.Handler == nil:
		return answer{}, invalid("Runtime and Handler are mandatory parameters for functions created with deployment " +
			"packages.")
	}
	if err := checkTags(in.Tags); err != nil {
		return answer{}, err
	}
	in.Code.ZipFile = r.zip
	pkg, err := s.unpack(in.Code)
	if err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.functions[in.FunctionName] != nil {
		return answer{}, failf(409, "ResourceConflictException", "Function already exist: %s", in.FunctionName)
	}
	if err := s.room(pkg.size); err != nil {
		return answer{}, err
	}
	f := &function{versions: map[int]*configuration{}, aliases: map[string]*alias{}, tags: maps.Clone(in.Tags),
		provisioned: map[string]*provisioned{}, unpublished: true}
	if f.tags == nil {
		f.tags = map[string]string{}
	}
	f.latest = configuration{
		FunctionName: in.FunctionName, FunctionArn: s.arn(in.FunctionName), Version: "$LATEST", PackageType: "Zip",
		Architectures: []string{"x86_64"}, Timeout: 3,
		MemorySize: 128, State: "Pending", StateReason: "The function is being created.", StateReasonCode: "Creating",
		LastUpdateStatus: "InProgress",
	}
	f.latest.EphemeralStorage.Size = 512
	f.latest.TracingConfig.Mode = "PassThrough"
	f.latest.LoggingConfig.LogFormat, f.latest.LoggingConfig.LogGroup = "Text", "/aws/lambda/"+in.FunctionName
	f.latest.SnapStart.ApplyOn, f.latest.SnapStart.OptimizationStatus = "None", "Off"
	if err := f.latest.configure(in); err != nil {
		return answer{}, err
	}
	if err := s.checkRole(f.latest.Role, f.latest); err != nil {
		return answer{}, err
	}
	f.latest.roleID = s.roleID(f.latest.Role)
	f.latest.setCode(pkg, in.Architectures)
	if s.tooYoung(f.latest.Role) {
		f.failure = &failure{"InsufficientRolePermissions", "The provided execution role is invalid."}
	}
	s.changed(f, s.config.Pending)
	if s.config.StaleReads > 0 {
		f.before, f.stale = nil, s.config.StaleReads
	}
	s.functions[in.FunctionName] = f
	if in.Publish {
		return answer{body: s.publish(f, "")}, nil
	}
	return answer{body: f.latest}, nil
}

// update begins an update, which is undone if the transition ends in failure.
func (s *Server) update(f *function, changed configuration) {
	was, unpublished := f.latest, f.unpublished
	f.serving = &was
	f.undo = func() {
		revision := f.latest.RevisionId
		f.latest, f.unpublished = was, unpublished
		f.latest.RevisionId = revision
	}
	f.latest = changed
	f.latest.LastUpdateStatus, f.latest.LastUpdateStatusReason, f.latest.LastUpdateStatusReasonCode = "InProgress", "", ""
	s.changed(f, s.config.Updating)
}

// changed begins a transition.
func (s *Server) changed(f *function, d time.Duration) {
	f.latest.RevisionId = s.nextRevision()
	f.latest.LastModified = s.lastModified()
	f.unpublished = true
	f.until = time.Now().Add(max(d, 0))
	if d < 0 {
		s.advance(f)
	}
}

// lastModified returns the present time in Lambda's form.
func (s *Server) lastModified() string {
	return s.now().UTC().Format(cmp.Or(s.config.LastModified, "2006-01-02T15:04:05.000+0000"))
}

func (c *configuration) setCode(p *code, architectures []string) {
	c.code, c.CodeSha256, c.CodeSize = p, p.sha256, p.size
	if len(architectures) > 0 {
		c.Architectures = architectures
	}
}

// read returns the state of a function that a read sees. The caller holds the lock.
func (s *Server) read(name string) (*function, *apiError) {
	f, err := s.find(name)
	if err != nil {
		if gone := s.deleted[name]; gone != nil {
			if gone.stale--; gone.stale <= 0 {
				delete(s.deleted, name)
			}
			return gone, nil
		}
		return nil, err
	}
	if f.stale > 0 {
		f.stale--
		if f.before == nil {
			return nil, failf(404, "ResourceNotFoundException", "Function not found: %s", s.arn(name))
		}
		return f.before, nil
	}
	return f, nil
}

// version resolves a version number or an alias.
func (s *Server) version(f *function, qualifier string) (*configuration, *apiError) {
	if qualifier == "" || qualifier == "$LATEST" {
		return &f.latest, nil
	}
	if a := f.aliases[qualifier]; a != nil {
		qualifier = a.FunctionVersion
		if qualifier == "$LATEST" {
			return &f.latest, nil
		}
	}
	if n, err := strconv.Atoi(qualifier); err == nil && f.versions[n] != nil {
		return f.versions[n], nil
	}
	return nil, failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn, qualifier)
}

// readVersion returns the function and the version that a request reads.
func (s *Server) readVersion(r request) (*function, *configuration, *apiError) {
	f, err := s.read(r.name)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.version(f, r.qualifier())
	return f, v, err
}

func (s *Server) getFunction(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, v, err := s.readVersion(r)
	if err != nil {
		return answer{}, err
	}
	body := map[string]any{
		"Configuration": v.qualified(r),
		"Code":          map[string]string{"RepositoryType": "S3", "Location": s.URL() + "/code/" + v.FunctionName},
	}
	if r.qualifier() == "" {
		if body["Tags"] = maps.Clone(f.tags); s.config.TagsError != "" {
			delete(body, "Tags")
			body["TagsError"] = map[string]string{"ErrorCode": s.config.TagsError,
				"Message": "Lambda could not read the tags of this function, which takes the permission lambda:ListTags on it."}
		}
		if f.reserved != nil {
			body["Concurrency"] = map[string]int{"ReservedConcurrentExecutions": *f.reserved}
		}
	}
	return answer{body: body}, nil
}

func (s *Server) getFunctionConfiguration(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, v, err := s.readVersion(r)
	if err != nil {
		return answer{}, err
	}
	return answer{body: v.qualified(r)}, nil
}

// qualified returns the configuration as Lambda reports it for a version or alias: its ARN ends
// with the qualifier.
func (c configuration) qualified(r request) configuration {
	if q := r.qualifier(); q != "" {
		arn, _, _ := strings.Cut(c.FunctionArn, ":function:")
		c.FunctionArn = arn + ":function:" + c.FunctionName + ":" + q
	}
	return c
}

func (s *Server) listFunctions(r request) (answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.AppendSeq(slices.Collect(maps.Keys(s.functions)), maps.Keys(s.deleted))
	slices.Sort(names)
	var all []configuration
	for _, name := range slices.Compact(names) {
		if f, err := s.read(name); err == nil {
			all = append(all, f.latest)
		}
	}
	page, next := paged(r, all)
	return answer{body: map[string]any{"Functions": page, "NextMarker": next}}, nil
}

// paged returns the page of a list that Marker and MaxItems ask for. A page has at most 50 items.
func paged(r request, all []configuration) ([]configuration, *string) {
	start, _ := strconv.Atoi(r.URL.Query().Get("Marker"))
	size, err := strconv.Atoi(r.URL.Query().Get("MaxItems"))
	if err != nil || size > 50 || size < 1 {
		size = 50
	}
	start = min(max(start, 0), len(all))
	end := min(start+size, len(all))
	page := append([]configuration{}, all[start:end]...)
	if end == len(all) {
		return page, nil
	}
	next := strconv.Itoa(end)
	return page, &next
}

// Fail makes the transition that a function is in, or begins next, end in failure, as Lambda does
// for a subnet without addresses or a role without rights.
func (s *Server) Fail(name, reasonCode, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[name]; f != nil {
		f.failure = &failure{reasonCode, reason}
	}
}

// Sleep makes a function inactive, as Lambda does to a function that was not invoked for weeks. The
// next invocation fails and wakes it.
func (s *Server) Sleep(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[name]
	if f == nil {
		return
	}
	f.latest.State, f.latest.StateReasonCode, f.latest.StateReason = "Inactive", "Idle", "The function is idle."
	for _, v := range f.versions {
		v.State, v.StateReasonCode, v.StateReason = "Inactive", "Idle", "The function is idle."
	}
}

func sha256Base64(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func sortedVersions(f *function) []int {
	numbers := slices.Collect(maps.Keys(f.versions))
	sort.Ints(numbers)
	return numbers
}

func (s *Server) deleteFunction(r request, f *function) (answer, *apiError) {
	if q := r.qualifier(); q != "" {
		n, aerr := strconv.Atoi(q)
		if aerr != nil || f.versions[n] == nil {
			if q == "$LATEST" {
				return answer{}, invalid("$LATEST version cannot be deleted without deleting the function.")
			}
			return answer{}, failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn, q)
		}
		for _, a := range f.aliases {
			told := a.describe()
			if told.FunctionVersion == q || told.RoutingConfig != nil && told.RoutingConfig.AdditionalVersionWeights[q] > 0 {
				return answer{}, failf(409, "ResourceConflictException",
					"Version was not able to be deleted because the following aliases reference it: [%s]", a.Name)
			}
		}
		delete(f.versions, n)
		delete(f.provisioned, q)
		s.pool.retire(r.name, q)
		return answer{}, nil
	}
	if f.latest.State == "Pending" {
		return answer{}, f.busy()
	}
	for _, a := range f.aliases {
		if time.Now().Before(a.moving) {
			return answer{}, failf(409, "ResourceConflictException",
				"The operation cannot be performed at this time. An update is in progress for resource: %s", a.AliasArn)
		}
	}
	delete(s.functions, r.name)
	if s.config.StaleReads > 0 {
		f.stale = s.config.StaleReads
		s.deleted[r.name] = f
	}
	s.pool.retire(r.name, "")
	return answer{}, nil
}
