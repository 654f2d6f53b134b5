package ec2

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const fakeImage = "ami-0a1b2c3d4e5f60718"

// machine is an instance of the fake.
type machine struct {
	id, token, state, reason string
	hidden                   int // looks that do not see it yet
	pending, ending          int // looks until the next state
	launch                   url.Values
}

// cloud fakes EC2, S3 and the parameter store over the wire, as far as runners need them.
type cloud struct {
	t testing.TB

	mu       sync.Mutex
	machines []*machine
	objects  map[string][]byte
	actions  []string

	// The fields below make the fake misbehave.
	hidden          int    // looks that do not see a launch
	diesOfReason    string // the reason for which a machine is terminated instead of running
	freshProfile    int    // launches that do not know the profile yet
	throttled       int    // requests that are throttled
	lostLaunches    int    // launches whose answer is lost
	blind           int    // looks at machines that fail
	launchStatus    int    // the status with which launches are refused, unless it is 0
	launchCode      string
	refuse          string // an action that is not allowed
	refuseAfterLoss bool   // no launch is allowed after a lost one
	stuckAtEnding   bool

	console string // of every machine
}

// newCloud starts a fake, to which the SDK's configuration leads.
func newCloud(t testing.TB) *cloud {
	c := &cloud{t: t, objects: map[string][]byte{}, console: "booting\nblueprint: the binary could not be fetched\n"}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE":   none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "",
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CA_BUNDLE":             "", // with it the configuration would get an HTTP client
	} {
		t.Setenv(name, value)
	}
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		c.signed(r, "ssm")
		c.parameter(w, r, body)
	case r.URL.Path != "/":
		c.signed(r, "s3")
		c.object(w, r, body)
	default:
		c.signed(r, "ec2")
		form, err := url.ParseQuery(string(body))
		if err != nil || r.Method != http.MethodPost ||
			!strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			c.t.Errorf("%s %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		c.action(w, form)
	}
}

// signed checks that the request is signed for the service.
func (c *cloud) signed(r *http.Request, service string) {
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") ||
		!strings.Contains(auth, "/eu-west-1/"+service+"/aws4_request") || r.Header.Get("X-Amz-Date") == "" {
		c.t.Errorf("%s %s is not signed for %s: %q", r.Method, r.URL.Path, service, auth)
	}
}

func (c *cloud) parameter(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct{ Name string }
	c.actions = append(c.actions, "GetParameter")
	if err := json.Unmarshal(body, &in); err != nil || r.Header.Get("X-Amz-Target") != "AmazonSSM.GetParameter" ||
		r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		c.t.Errorf("%q, %v: %v", body, r.Header, err)
	}
	if in.Name != "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"ParameterNotFound","message":""}`)
		return
	}
	fmt.Fprintf(w, `{"Parameter":{"Name":%q,"Type":"String","Value":%q,"Version":1}}`, in.Name, fakeImage)
}

func (c *cloud) object(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	if r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) {
		c.t.Errorf("%s: X-Amz-Content-Sha256 is not that of the body", r.Method)
	}
	switch r.Method {
	case http.MethodPut:
		c.actions = append(c.actions, "PutObject")
		if c.refuse == "PutObject" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
			return
		}
		c.objects[r.URL.Path] = body
	case http.MethodDelete:
		c.actions = append(c.actions, "DeleteObject")
		delete(c.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		c.t.Errorf("unexpected %s", r.Method)
	}
}

// refusal writes an error in EC2's form.
func refusal(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>%s</Code>`+
		`<Message>%s</Message></Error></Errors><RequestID>r</RequestID></Response>`, code, message)
}

func (c *cloud) action(w http.ResponseWriter, form url.Values) {
	name := form.Get("Action")
	c.actions = append(c.actions, name)
	if form.Get("Version") != "2016-11-15" {
		c.t.Errorf("%s: version %q", name, form.Get("Version"))
	}
	if c.throttled > 0 {
		c.throttled--
		refusal(w, 503, "RequestLimitExceeded", "Request limit exceeded.")
		return
	}
	if c.refuse == name {
		refusal(w, 403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
		return
	}
	if name == "RunInstances" && c.launchStatus != 0 {
		refusal(w, c.launchStatus, c.launchCode, "There is no more.")
		return
	}
	switch name {
	case "RunInstances":
		c.run(w, form)
	case "DescribeInstances":
		if c.blind > 0 {
			c.blind--
			refusal(w, 500, "InternalError", "An internal error has occurred")
			return
		}
		c.describe(w, form)
	case "TerminateInstances":
		m := c.byID(form.Get("InstanceId.1"))
		if m == nil {
			refusal(w, 400, "InvalidInstanceID.NotFound", "The instance ID does not exist")
			return
		}
		if m.state != "terminated" && m.state != "shutting-down" {
			m.state, m.ending = "shutting-down", 2
		}
		fmt.Fprintf(w, `<TerminateInstancesResponse><instancesSet><item><instanceId>%s</instanceId></item>`+
			`</instancesSet></TerminateInstancesResponse>`, m.id)
	case "GetConsoleOutput":
		fmt.Fprintf(w, `<GetConsoleOutputResponse><output>%s</output></GetConsoleOutputResponse>`,
			base64.StdEncoding.EncodeToString([]byte(c.console)))
	default:
		refusal(w, 400, "InvalidAction", "The action is not valid")
	}
}

var launchFields = []string{
	"Action", "Version", "ImageId", "InstanceType", "MinCount", "MaxCount", "ClientToken", "UserData",
	"MetadataOptions.HttpTokens", "MetadataOptions.HttpEndpoint",
	"InstanceInitiatedShutdownBehavior", "SubnetId", "SecurityGroupId.1", "SecurityGroupId.2", "IamInstanceProfile.Name",
	"IamInstanceProfile.Arn",
}

func (c *cloud) run(w http.ResponseWriter, form url.Values) {
	for field := range form {
		if !slices.Contains(launchFields, field) && !strings.HasPrefix(field, "TagSpecification.") {
			refusal(w, 400, "UnknownParameter", "The parameter "+field+" is not recognized")
			return
		}
	}
	token := form.Get("ClientToken")
	script, err := base64.StdEncoding.DecodeString(form.Get("UserData"))
	switch {
	case token == "" || len(token) > 64 || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }):
		refusal(w, 400, "InvalidParameterValue", "ClientToken")
		return
	case err != nil || len(script) > 16384:
		refusal(w, 400, "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data")
		return
	case form.Get("ImageId") != fakeImage:
		refusal(w, 400, "InvalidAMIID.NotFound", "The image id does not exist")
		return
	case c.freshProfile > 0:
		c.freshProfile--
		refusal(w, 400, "InvalidParameterValue", "Value (runner) for parameter iamInstanceProfile.name is invalid. "+
			"Invalid IAM Instance Profile name")
		return
	}
	for _, m := range c.machines {
		if m.token != token {
			continue
		}
		if !maps.EqualFunc(m.launch, form, slices.Equal[[]string]) {
			refusal(w, 400, "IdempotentParameterMismatch",
				"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
			return
		}
		fmt.Fprintf(w, `<RunInstancesResponse><instancesSet>%s</instancesSet></RunInstancesResponse>`, m.item())
		return
	}
	m := &machine{id: fmt.Sprintf("i-%017x", len(c.machines)+1), token: token, state: "pending", hidden: c.hidden,
		pending: 2, launch: form}
	c.machines = append(c.machines, m)
	if c.lostLaunches > 0 {
		c.lostLaunches--
		if c.refuseAfterLoss {
			c.refuse = "RunInstances"
		}
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, `<RunInstancesResponse><reservationId>r-1</reservationId>`+
		`<instancesSet>%s</instancesSet></RunInstancesResponse>`, m.item())
}

func (m *machine) item() string {
	reason := ""
	if m.reason != "" {
		reason = "<stateReason><code>Client.InstanceInitiatedShutdown</code><message>" + m.reason + "</message></stateReason>"
	}
	return fmt.Sprintf(`<item><instanceId>%s</instanceId><instanceState><code>0</code><name>%s</name></instanceState>`+
		`<clientToken>%s</clientToken>%s</item>`, m.id, m.state, m.token, reason)
}

func (c *cloud) byID(id string) *machine {
	for _, m := range c.machines {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (c *cloud) describe(w http.ResponseWriter, form url.Values) {
	id, filtered := form.Get("InstanceId.1"), form.Get("Filter.1.Name") == "client-token"
	if (id == "") == !filtered {
		c.t.Errorf("DescribeInstances with %v", form)
	}
	items := ""
	for _, m := range c.machines {
		if m.id != id && (!filtered || m.token != form.Get("Filter.1.Value.1")) {
			continue
		}
		if m.hidden > 0 {
			m.hidden--
			continue
		}
		c.advance(m)
		items += "<item><reservationId>r-1</reservationId><instancesSet>" + m.item() + "</instancesSet></item>"
	}
	if items == "" && id != "" {
		refusal(w, 400, "InvalidInstanceID.NotFound", "The instance ID '"+id+"' does not exist")
		return
	}
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+
		`<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">`+
		`<reservationSet>%s</reservationSet></DescribeInstancesResponse>`, items)
}

// advance lets time pass for a machine.
func (c *cloud) advance(m *machine) {
	switch {
	case m.state == "pending" && m.pending > 0:
		m.pending--
	case m.state == "pending" && c.diesOfReason != "":
		m.state, m.reason = "terminated", c.diesOfReason
	case m.state == "pending":
		m.state = "running"
	case m.state == "shutting-down" && c.stuckAtEnding:
	case m.state == "shutting-down" && m.ending > 0:
		m.ending--
	case m.state == "shutting-down":
		m.state = "terminated"
	}
}

// alive returns the machines that are neither terminated nor shutting down.
func (c *cloud) alive() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		if m.state == "pending" || m.state == "running" {
			ids = append(ids, m.id)
		}
	}
	return ids
}

func (c *cloud) count(action string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.actions {
		if a == action {
			n++
		}
	}
	return n
}

// nothingLeft checks that no machine and no object exists.
func (c *cloud) nothingLeft() {
	c.t.Helper()
	if ids := c.alive(); len(ids) > 0 || len(c.objects) > 0 {
		c.t.Errorf("left: machines %v, objects %v", ids, slices.Collect(maps.Keys(c.objects)))
	}
}

// quick is the pace of tests: its intervals are short, its bounds are not.
var quick = pace{
	poll: time.Millisecond, settle: 20 * time.Second, profile: 20 * time.Second, answer: 20 * time.Second,
	start:   20 * time.Second,
	cleanup: 20 * time.Second,
}

// cancelAfter cancels the caller's context after the request that terminates the machine.
type cancelAfter struct {
	next interface {
		Do(*http.Request) (*http.Response, error)
	}
	cloud  *cloud
	cancel func()
}

func (c cancelAfter) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.next.Do(r)
	if c.cloud.count("TerminateInstances") > 0 {
		defer c.cancel()
	}
	return resp, err
}
