//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
)

// object is a package in S3.
type object struct{ bucket, key string }

// String is the form of the tag that records it.
func (o object) String() string { return o.bucket + "/" + o.key }

func parseObject(text string) object {
	bucket, key, ok := strings.Cut(text, "/")
	if !ok {
		return object{}
	}
	return object{bucket, key}
}

// objectHolds reports whether a recorded object is the package with that hash: keys are made of it.
func objectHolds(recorded, sha256 string) bool { return strings.HasSuffix(recorded, "/"+sha256+".zip") }

// uploads makes units that share a package upload it once.
type uploads struct {
	mu   sync.Mutex
	busy map[object]*once
}

func (u *uploads) of(o object) *once {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy == nil {
		u.busy = map[object]*once{}
	}
	if u.busy[o] == nil {
		u.busy[o] = &once{}
	}
	return u.busy[o]
}

func (u *uploads) forget(o object) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.busy, o)
}

// storesPackages reports whether big packages may be in S3.
func (e *Executor) storesPackages() bool { return e.options.s3Bucket != "" || e.options.createBucket }

// keyStem is what the keys of the service's packages have in common.
func (e *Executor) keyStem() string {
	return "blueprint-serverless/" + nameStem(e.service) + "packages/"
}

// s3 addresses a bucket by path, which works for every name and at every S3 there is.
func (e *Executor) s3() awssign.Service { return awssign.Regional("S3", "s3", e.region) }

func (o object) path() string {
	return "/" + url.PathEscape(o.bucket) + "/" + strings.ReplaceAll(url.PathEscape(o.key), "%2F", "/")
}

// putPackage puts the unit's package into the bucket, unless it is there.
func (e *Executor) putPackage(ctx context.Context, u faas.Unit) (object, error) {
	bucket, err := e.bucket(ctx)
	if err != nil {
		return object{}, err
	}
	where := object{bucket, e.keyStem() + u.Package.SHA256() + ".zip"}
	_, err = e.uploads.of(where).do(func() (string, error) {
		_, err := e.send(ctx, e.s3(), awssign.Request{Operation: "HeadObject", Method: "HEAD", Path: where.path()})
		switch code := codeOf(err); {
		case err == nil:
			return "", nil
		case apiCode(err) == "MovedPermanently": // the answer to a HEAD says no more
			return "", faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda, "bucket %s is in another region than the functions, which are in %s: %w", bucket, e.region, err)
		case code != faas.ErrNotFound && code != faas.ErrPermissionDenied: // S3 says forbidden of what is not there to who may not list
			return "", err
		}
		_, err = e.send(ctx, e.s3(), awssign.Request{
			Operation: "PutObject", Method: "PUT", Path: where.path(), Header: map[string]string{"Content-Type": "application/zip"},
			Open: func() (io.ReadCloser, error) { return u.Package.Open() }, Size: u.Package.Size(), SHA256: u.Package.SHA256(),
		})
		return "", err
	})
	return where, err
}

// bucket is the one for packages; it is created where the options say so.
func (e *Executor) bucket(ctx context.Context) (string, error) {
	if e.options.s3Bucket != "" {
		return e.options.s3Bucket, nil
	}
	role, err := e.executionRole(ctx)
	if err != nil {
		return "", err
	}
	name := bucketPrefix + strings.Split(role, ":")[4] + "-" + e.region
	_, err = e.uploads.of(object{bucket: name}).do(func() (string, error) { return name, e.createBucket(ctx, name) })
	return name, err
}

// lifecycle lets packages expire: Lambda copies them when a function is created or updated.
const lifecycle = `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>packages</ID><Filter><Prefix>blueprint-serverless/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>7</Days></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>`

func (e *Executor) createBucket(ctx context.Context, name string) error {
	var body []byte
	if e.region != "us-east-1" { // the one region that must not be named
		body = []byte(`<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>` + e.region + `</LocationConstraint></CreateBucketConfiguration>`)
	}
	_, err := e.send(ctx, e.s3(), awssign.Request{Operation: "CreateBucket", Method: "PUT", Path: "/" + name, Body: body})
	if apiCode(err) == "BucketAlreadyOwnedByYou" {
		return nil
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(lifecycle)) // S3 asks for a checksum here
	_, err = e.send(ctx, e.s3(), awssign.Request{
		Operation: "PutBucketLifecycleConfiguration", Method: "PUT", Path: "/" + name + "?lifecycle=", Body: []byte(lifecycle),
		Header: map[string]string{"Content-Type": "application/xml", "X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum[:])},
	})
	return err
}

// deleteObject removes a package. One that is gone is success.
func (e *Executor) deleteObject(ctx context.Context, o object) error {
	if !strings.HasPrefix(o.key, e.keyStem()) {
		return nil // a tag that somebody else wrote
	}
	e.uploads.forget(o)
	_, err := e.send(ctx, e.s3(), awssign.Request{Operation: "DeleteObject", Method: "DELETE", Path: o.path()})
	if isNotFound(err) {
		return nil
	}
	return err
}

// deletePackages removes all packages of the service, those that no function records included.
func (e *Executor) deletePackages(ctx context.Context) error {
	bucket := e.options.s3Bucket
	if bucket == "" {
		role, err := e.executionRoleIfKnown()
		if err != nil || role == "" {
			return err
		}
		bucket = bucketPrefix + strings.Split(role, ":")[4] + "-" + e.region
	}
	query := "/" + bucket + "?list-type=2&prefix=" + queryEscape(e.keyStem())
	for path := query; ; {
		body, err := e.send(ctx, e.s3(), awssign.Request{Operation: "ListObjectsV2", Method: "GET", Path: path})
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		var list struct {
			Contents []struct {
				Key string `xml:"Key"`
			} `xml:"Contents"`
			Next string `xml:"NextContinuationToken"` // empty on the last page
		}
		if err := xml.Unmarshal(body, &list); err != nil {
			return faas.Errorf(faas.ErrInternal, "remove", faas.AWSLambda, "the list of packages in bucket %s is not understood: %w", bucket, err)
		}
		for _, found := range list.Contents {
			if err := e.deleteObject(ctx, object{bucket, found.Key}); err != nil {
				return err
			}
		}
		if list.Next == "" {
			return nil
		}
		path = query + "&continuation-token=" + queryEscape(list.Next)
	}
}

// queryEscape is url.QueryEscape without a plus for a space, which signatures do not have.
func queryEscape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// executionRoleIfKnown is the execution role without making one.
func (e *Executor) executionRoleIfKnown() (string, error) {
	if e.options.roleArn != "" {
		return e.options.roleArn, nil
	}
	e.role.mu.Lock()
	defer e.role.mu.Unlock()
	return e.role.value, nil
}

// deleteLogGroup removes the log group of a function. One that does not exist is success.
func (e *Executor) deleteLogGroup(ctx context.Context, name string) error {
	body, err := json.Marshal(map[string]string{"logGroupName": "/aws/lambda/" + name})
	if err != nil {
		return err
	}
	_, err = e.send(ctx, awssign.Regional("CloudWatch Logs", "logs", e.region), awssign.Request{
		Operation: "DeleteLogGroup", Method: "POST", Path: "/", Body: body,
		Header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.DeleteLogGroup"},
	})
	if isNotFound(err) {
		return nil
	}
	return err
}
