package ec2

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
)

const apiVersion = "2016-11-15"

// The states of an instance that are acted on.
const (
	statePending    = "pending"
	stateRunning    = "running"
	stateTerminated = "terminated"
)

// instance is what EC2 tells of a machine.
type instance struct {
	ID          string `xml:"instanceId"`
	State       string `xml:"instanceState>name"`
	ClientToken string `xml:"clientToken"`
	Reason      string `xml:"stateReason>message"`
}

// ec2 calls an action of EC2 and reads its answer into out.
func (c *client) ec2(ctx context.Context, action string, form url.Values, out any) error {
	form.Set("Action", action)
	form.Set("Version", apiVersion)
	body, err := c.send(ctx, awssign.Regional("EC2", "ec2", c.region), awssign.Request{
		Operation: action, Method: http.MethodPost, Path: "/", Body: []byte(form.Encode()),
		Header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
	})
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(body, out); err != nil {
		return faas.Errorf(faas.ErrInternal, action, "", "the answer is not XML: %w", err)
	}
	return nil
}

func (c *client) runInstance(ctx context.Context, form url.Values) (*instance, error) {
	var out struct {
		Instances []instance `xml:"instancesSet>item"`
	}
	if err := c.ec2(ctx, "RunInstances", form, &out); err != nil {
		return nil, err
	}
	if len(out.Instances) != 1 || out.Instances[0].ID == "" {
		return nil, faas.Errorf(faas.ErrInternal, "RunInstances", "", "the answer tells of %d machines, and one was asked for", len(out.Instances))
	}
	return &out.Instances[0], nil
}

// describe returns the instance of the id, or, where that is empty, the one that was launched with the token; nil where EC2 knows none.
func (c *client) describe(ctx context.Context, id, token string) (*instance, error) {
	form := url.Values{}
	if id != "" {
		form.Set("InstanceId.1", id)
	} else {
		form.Set("Filter.1.Name", "client-token")
		form.Set("Filter.1.Value.1", token)
	}
	var out struct {
		Instances []instance `xml:"reservationSet>item>instancesSet>item"`
	}
	err := c.ec2(ctx, "DescribeInstances", form, &out)
	var api *awssign.Error
	switch {
	case errors.As(err, &api) && api.Code == codeNotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case len(out.Instances) == 0:
		return nil, nil
	case out.Instances[0].ClientToken != token:
		return nil, faas.Errorf(faas.ErrConflict, "DescribeInstances", "", "machine %s was not launched as this runner: it is left alone", out.Instances[0].ID)
	}
	return &out.Instances[0], nil
}

// terminate ends the instance. One that is gone is success.
func (c *client) terminate(ctx context.Context, id string) error {
	err := c.ec2(ctx, "TerminateInstances", url.Values{"InstanceId.1": {id}}, &struct{}{})
	var api *awssign.Error
	if errors.As(err, &api) && api.Code == codeNotFound {
		return nil
	}
	return err
}

// console returns the last lines that the machine wrote on its console; what there is no knowing is "".
func (c *client) console(ctx context.Context, id string) string {
	var out struct {
		Output string `xml:"output"`
	}
	if c.ec2(ctx, "GetConsoleOutput", url.Values{"InstanceId": {id}, "Latest": {"true"}}, &out) != nil {
		return ""
	}
	text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(out.Output), ""))
	if err != nil {
		return ""
	}
	const maxTail = 2 << 10
	if len(text) > maxTail {
		text = text[len(text)-maxTail:]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(text)), "")
}

// image asks for the newest image of Amazon Linux 2023.
func (c *client) image(ctx context.Context, arch faas.Arch) (string, error) {
	suffix := map[faas.Arch]string{faas.ARM64: "arm64", faas.AMD64: "x86_64"}[arch]
	name := "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-" + suffix
	input, err := json.Marshal(map[string]string{"Name": name})
	if err != nil {
		return "", err
	}
	body, err := c.send(ctx, awssign.Regional("SSM", "ssm", c.region), awssign.Request{
		Operation: "GetParameter", Method: http.MethodPost, Path: "/", Body: input,
		Header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"},
	})
	if err != nil {
		return "", fmt.Errorf("%w (Config.ImageID names an image without asking)", err)
	}
	var out struct{ Parameter struct{ Value string } }
	if err := json.Unmarshal(body, &out); err != nil || !strings.HasPrefix(out.Parameter.Value, "ami-") {
		return "", faas.Errorf(faas.ErrInternal, "GetParameter", "", "the answer for %s names no image: set Config.ImageID", name)
	}
	return out.Parameter.Value, nil
}

// put uploads the binary.
func (c *client) put(ctx context.Context, path string, binary *faas.Binary) error {
	_, err := c.send(ctx, c.s3(), awssign.Request{
		Operation: "PutObject", Method: http.MethodPut, Path: path, Header: map[string]string{"Content-Type": "application/octet-stream"},
		Open: func() (io.ReadCloser, error) { return os.Open(binary.Path) }, Size: binary.Size, SHA256: binary.SHA256,
	})
	return err
}

// remove deletes an object. One that is gone is success.
func (c *client) remove(ctx context.Context, path string) error {
	_, err := c.send(ctx, c.s3(), awssign.Request{Operation: "DeleteObject", Method: http.MethodDelete, Path: path})
	var api *awssign.Error
	if errors.As(err, &api) && (api.Code == "NoSuchKey" || api.Code == "NoSuchBucket") {
		return nil
	}
	return err
}
