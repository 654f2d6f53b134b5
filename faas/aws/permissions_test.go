//go:build !faas_only || faas_aws

package aws

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// The policy in the package documentation is what operators paste. It is valid, and has every permission that a deployment
// takes, but for those of a VPC, layers and keys that options name.
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
