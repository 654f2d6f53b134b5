//go:build !faas_only || faas_aws

package aws

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// statements returns the statements of the policy in the package documentation.
func statements(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for line := range strings.Lines(string(text)) {
		if l, ok := strings.CutPrefix(line, "//\t"); ok {
			code.WriteString(l)
		}
	}
	var policy struct {
		Statement []struct {
			Sid    string
			Action []string
		}
	}
	if err := json.Unmarshal([]byte(code.String()), &policy); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, s := range policy.Statement {
		all[s.Sid] = s.Action
	}
	return all
}

// The guide repeats the statements of the package documentation.
func TestTheGuideHasThePermissionsOfThePolicy(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\w+) \| [^|]+ \| ((?:`+"`\\w+:\\w+`"+
		`(?:, )?)+) \|$`).FindAllStringSubmatch(string(guide), -1) {
		got[row[1]] = strings.Split(strings.ReplaceAll(row[2], "`", ""), ", ")
	}
	if diff := cmp.Diff(statements(t), got); diff != "" {
		t.Errorf("(-documentation +guide):\n%s", diff)
	}
}

// A deployment without options calls only what the guide says every deployment needs.
func TestADeploymentWithoutOptionsTakesTheLeast(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "least", opening{})
	f := small(0)
	f.MaxConcurrency, f.KeepWarm = 5, 1
	before := mustDeploy(t, e, unitOf(t, e, script(t, "x"), f))
	f.MemoryMB *= 2
	mustDeploy(t, e, unitOf(t, e, script(t, "y"), f))
	answers(t, e, 0, "2-one")
	if err := e.Restore(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if _, err := e.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), functionName("least", 0)); err != nil {
		t.Fatal(err)
	}
	allowed := slices.Concat(statements(t)["Functions"], statements(t)["List"])
	for _, call := range server.Calls() {
		action := call.Service + ":" + call.Operation
		if action == "lambda:Invoke" {
			action = "lambda:InvokeFunction"
		}
		if !slices.Contains(allowed, action) {
			t.Errorf("%s was called", action)
		}
	}
}

// Operators paste the policy in the package documentation. It is valid and has every permission
// that a deployment needs, except those for a VPC, layers and keys that options name.
func TestTheDocumentedPolicyHasEveryPermission(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(file.Doc.Text(), "# Permissions")
	first, last := strings.Index(text, "\t{"), strings.LastIndex(text, "\n\t}")
	if !found || first < 0 || last < first {
		t.Fatal("there is no policy")
	}
	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect string
			Action      []string
		}
	}
	if err := json.Unmarshal([]byte(text[first:last+3]), &policy); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, s := range policy.Statement {
		if s.Effect != "Allow" || s.Sid == "" {
			t.Errorf("statement %+v", s)
		}
		allowed = append(allowed, s.Action...)
	}
	if policy.Version != "2012-10-17" {
		t.Errorf("version %q", policy.Version)
	}
	server := serve(t, lambdatest.Config{})
	for _, options := range []map[string]string{
		{"role_arn": server.RoleARN(), "bucket": "packages", "remove_logs": "true"},
		{"create_role": "true", "create_bucket": "true", "account_id": "123456789012"},
	} {
		e := openAt(t, server, "permissions", opening{options: options})
		d := &diagnosis{e: e}
		for _, n := range d.needs() {
			for _, action := range slices.Concat(n.actions, n.wished) {
				if !slices.Contains(allowed, action) {
					t.Errorf("with %v: %s is needed, and the documented policy lacks it", options, action)
				}
			}
		}
	}
}
