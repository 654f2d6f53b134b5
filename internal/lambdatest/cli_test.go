package lambdatest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cli is the official AWS CLI. It shares no code with this package or with the SDK for Go.
type cli struct {
	*testing.T
	path string
	env  []string
}

func newCLI(t *testing.T, server *Server) cli {
	t.Helper()
	path, err := exec.LookPath("aws")
	if err != nil || testing.Short() {
		t.Skip("needs the AWS CLI, and takes seconds")
	}
	env := append(os.Environ(), "AWS_PAGER=", "HOME="+t.TempDir())
	for name, value := range server.Environment() {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return cli{t, path, env}
}

func (c cli) run(args ...string) (stdout, stderr string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, append(args, "--output", "text")...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, &out, &errs
	if err := cmd.Run(); err != nil && errs.Len() == 0 {
		c.Fatalf("aws %v: %v", args, err)
	}
	return strings.TrimSpace(out.String()), errs.String()
}

// ok runs a command that must succeed.
func (c cli) ok(args ...string) string {
	c.Helper()
	out, errs := c.run(args...)
	if errs != "" {
		c.Fatalf("aws %v: %s", args, errs)
	}
	return out
}

// refused runs a command that must fail with the given text.
func (c cli) refused(text string, args ...string) {
	c.Helper()
	if out, errs := c.run(args...); !strings.Contains(errs, text) {
		c.Errorf("aws %v: %s%s, want %q", args, out, errs, text)
	}
}

func TestTheCLIReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	server, _ := start(t, atOnce(Config{Region: "eu-west-1"}))
	aws, dir := newCLI(t, server), t.TempDir()
	zip := filepath.Join(dir, "package.zip")
	if err := os.WriteFile(zip, packed(t, "bootstrap", "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 9<<20/16), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each command takes a second of an idle machine, so there are only a few.
	aws.ok("s3", "mb", "s3://packages")
	aws.ok("s3", "cp", "--no-progress", big, "s3://packages/a/big") // in parts
	aws.ok("s3", "cp", "--no-progress", zip, "s3://packages/a/package.zip")
	if got := aws.ok("s3api", "list-objects-v2", "--bucket", "packages", "--prefix", "a/", "--query",
		"Contents[].[Key,Size]"); !strings.HasPrefix(got, "a/big\t9437184\na/package.zip\t") {
		t.Errorf("objects %q", got)
	}
	role := aws.ok("iam", "create-role", "--role-name", "runner", "--assume-role-policy-document", lambdaTrust, "--tags",
		"Key=a,Value=b", "--query", "Role.Arn")
	aws.ok("iam", "put-role-policy", "--role-name", "runner", "--policy-name", "p", "--policy-document", nobody)
	aws.refused("(DeleteConflict)", "iam", "delete-role", "--role-name", "runner")
	if got := aws.ok("service-quotas", "get-service-quota", "--service-code", "lambda", "--quota-code", "L-B99A9384",
		"--query", "Quota.Value"); !strings.HasPrefix(got, "1000") {
		t.Errorf("quota %q", got)
	}
	aws.ok("lambda", "create-function", "--function-name", "f", "--runtime", "provided.al2023", "--handler", "bootstrap",
		"--role", role, "--code", "S3Bucket=packages,S3Key=a/package.zip", "--publish")
	aws.ok("lambda", "create-alias", "--function-name", "f", "--name", "live", "--function-version", "1")
	aws.ok("lambda", "put-provisioned-concurrency-config", "--function-name", "f", "--qualifier", "live",
		"--provisioned-concurrent-executions", "2")
	aws.refused("(InvalidParameterValueException)", "lambda", "put-function-concurrency", "--function-name", "f",
		"--reserved-concurrent-executions", "1")
	aws.ok("lambda", "put-function-concurrency", "--function-name", "f", "--reserved-concurrent-executions", "2")
	aws.env = append(aws.env, "AWS_MAX_ATTEMPTS=1")
	aws.refused("(TooManyRequestsException)", "lambda", "invoke", "--function-name", "f", "--qualifier", "1",
		filepath.Join(dir, "out"))
	if got := aws.ok("lambda", "invoke", "--function-name", "f", "--qualifier", "live", "--query", "ExecutedVersion",
		filepath.Join(dir, "out")); got != "1" {
		t.Errorf("version %q ran", got)
	}
}
