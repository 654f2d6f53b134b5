package ec2

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
)

// instance is what EC2 reports about a machine.
type instance struct {
	ID     string
	State  types.InstanceStateName
	Reason string
}

func instanceOf(i types.Instance) *instance {
	out := &instance{ID: aws.ToString(i.InstanceId)}
	if i.State != nil {
		out.State = i.State.Name
	}
	if i.StateReason != nil {
		out.Reason = aws.ToString(i.StateReason.Message)
	}
	return out
}

// runInstance launches a machine. If lost is true, an attempt was not answered, and a machine may
// exist in spite of an error.
func (c *client) runInstance(ctx context.Context, in *ec2.RunInstancesInput) (_ *instance, lost bool, _ error) {
	var noted atomic.Bool
	out, err := c.ec2.RunInstances(ctx, in, func(o *ec2.Options) { o.Retryer = launching{o.Retryer, &noted} })
	switch {
	case err != nil:
		return nil, noted.Load() || unanswered(err), err
	case len(out.Instances) != 1 || aws.ToString(out.Instances[0].InstanceId) == "":
		return nil, true, faas.Errorf(faas.ErrInternal, "RunInstances", "",
			"the answer has %d machines instead of one", len(out.Instances))
	}
	return instanceOf(out.Instances[0]), false, nil
}

// describe returns the instance with the id or, if id is empty, the one that was launched with the
// token. It returns nil if EC2 knows no such instance.
func (c *client) describe(ctx context.Context, id, token string) (*instance, error) {
	in := &ec2.DescribeInstancesInput{}
	if id != "" {
		in.InstanceIds = []string{id}
	} else {
		in.Filters = []types.Filter{{Name: aws.String("client-token"), Values: []string{token}}}
	}
	var found []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(c.ec2, in) // a page may be empty
	for pages.HasMorePages() && len(found) == 0 {
		page, err := pages.NextPage(ctx)
		switch {
		case awsclient.APICode(err) == codeNotFound:
			return nil, nil
		case err != nil:
			return nil, err
		}
		for _, reservation := range page.Reservations {
			found = append(found, reservation.Instances...)
		}
	}
	switch {
	case len(found) == 0:
		return nil, nil
	case aws.ToString(found[0].ClientToken) != token:
		return nil, faas.Errorf(faas.ErrConflict, "DescribeInstances", "",
			"machine %s was not launched as this runner: it is left alone", aws.ToString(found[0].InstanceId))
	}
	return instanceOf(found[0]), nil
}

// terminate terminates the instance. It succeeds if the instance is gone.
func (c *client) terminate(ctx context.Context, id string) error {
	_, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if awsclient.APICode(err) == codeNotFound {
		return nil
	}
	return err
}

// console returns the last bytes of the machine's console, or "" if it cannot get them.
func (c *client) console(ctx context.Context, id string, most int) string {
	out, err := c.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)})
	if err != nil {
		return ""
	}
	text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(aws.ToString(out.Output)), ""))
	if err != nil {
		return ""
	}
	text = text[max(0, len(text)-most):]
	return strings.ToValidUTF8(strings.TrimSpace(string(text)), "")
}

// image returns the newest image of Amazon Linux 2023.
func (c *client) image(ctx context.Context, arch faas.Arch) (string, error) {
	suffix := map[faas.Arch]string{faas.ARM64: "arm64", faas.AMD64: "x86_64"}[arch]
	name := "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-" + suffix
	out, err := c.ssm.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if err != nil {
		return "", fmt.Errorf("%w (Config.ImageID names an image without asking)", err)
	}
	if out.Parameter == nil || !strings.HasPrefix(aws.ToString(out.Parameter.Value), "ami-") {
		return "", faas.Errorf(faas.ErrInternal, "GetParameter", "", "the answer for %s names no image: set Config.ImageID",
			name)
	}
	return *out.Parameter.Value, nil
}

// put uploads the binary.
func (c *client) put(ctx context.Context, n note, binary *faas.Binary) error {
	sum, err := hex.DecodeString(binary.SHA256)
	if err != nil {
		return err
	}
	f, err := os.Open(binary.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	// S3 refuses a file that changed since it was inspected.
	_, err = c.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &n.Bucket, Key: &n.Key, Body: f, ContentLength: &binary.Size,
		ContentType:    aws.String("application/octet-stream"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
	})
	return err
}

// presign returns a URL with which anyone can fetch the binary for some time, as long as the
// credentials are valid. It sends nothing.
func (c *client) presign(ctx context.Context, n note, valid time.Duration) (string, error) {
	out, err := s3.NewPresignClient(c.s3).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &n.Bucket, Key: &n.Key},
		s3.WithPresignExpires(valid))
	if err != nil {
		return "", err
	}
	return out.URL, nil
}

// remove deletes the binary's object. It succeeds if the object is gone.
func (c *client) remove(ctx context.Context, n note) error {
	_, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &n.Bucket, Key: &n.Key})
	if code := awsclient.APICode(err); code == "NoSuchKey" || code == "NoSuchBucket" {
		return nil
	}
	return err
}
