package lambdatest

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bucket is an S3 bucket.
type bucket struct {
	region  string
	foreign bool // another account's
	objects map[string]object
	uploads map[string]*upload // by ID
}

type object struct {
	data     []byte
	modified time.Time
	etag     string
}

// upload is an upload in parts that is not complete yet.
type upload struct {
	key   string
	parts map[int]object
}

// Limits of S3.
const (
	maxKeys = 1000    // in one list
	minPart = 5 << 20 // bytes, but for the last part
	maxPart = 10_000  // parts
)

var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func newBucket(region string) *bucket {
	return &bucket{region: region, objects: map[string]object{}, uploads: map[string]*upload{}}
}

func newObject(data []byte) object {
	sum := md5.Sum(data)
	return object{data, time.Now(), `"` + hex.EncodeToString(sum[:]) + `"`}
}

// CreateBucket makes a bucket, as an operator would have done.
func (s *Server) CreateBucket(name string) { s.CreateBucketIn(s.config.Region, name) }

// CreateBucketIn makes a bucket in another region, from which Lambda here takes no package.
func (s *Server) CreateBucketIn(region, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = newBucket(region)
}

// TakeBucket makes a bucket that belongs to another account.
func (s *Server) TakeBucket(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = newBucket(s.config.Region)
	s.buckets[name].foreign = true
}

// s3Operation returns the operation that a request is, or "" if the fake does not know it.
func s3Operation(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	resource := "Bucket"
	if key != "" {
		resource = "Object"
	}
	for name, more := range map[string]string{"lifecycle": "Lifecycle", "uploads": "Uploads", "uploadId": "Upload",
		"list-type": "List"} {
		if query.Has(name) {
			resource += more
			query.Del(name)
		}
	}
	for _, name := range []string{"x-id", "partNumber", "prefix", "delimiter", "continuation-token", "start-after",
		"max-keys", "encoding-type"} {
		query.Del(name)
	}
	if len(query) > 0 {
		return ""
	}
	return map[string]string{
		"PUT Bucket": "CreateBucket", "HEAD Bucket": "HeadBucket", "PUT BucketLifecycle": "PutBucketLifecycleConfiguration",
		"GET BucketList": "ListObjectsV2",
		"DELETE Bucket":  "DeleteBucket", "PUT Object": "PutObject", "HEAD Object": "HeadObject", "GET Object": "GetObject",
		"DELETE Object":      "DeleteObject",
		"POST ObjectUploads": "CreateMultipartUpload", "PUT ObjectUpload": "UploadPart",
		"POST ObjectUpload": "CompleteMultipartUpload", "DELETE ObjectUpload": "AbortMultipartUpload",
	}[r.Method+" "+resource]
}

// serveS3 answers a call of S3.
func (s *Server) serveS3(w http.ResponseWriter, r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := decodeBody(r, body)
	if err == nil {
		err = s.onBucket(w, r, body)
	}
	if err != nil {
		err.write(w, "s3")
	}
}

// onBucket performs an operation on a bucket. The caller holds s.mu.
func (s *Server) onBucket(w http.ResponseWriter, r *http.Request, body []byte) *apiError {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	operation := s3Operation(r)
	b := s.buckets[name]
	switch owner := r.Header.Get("X-Amz-Expected-Bucket-Owner"); {
	case operation == "":
		return failf(501, "NotImplemented", "%s %s is not known here", r.Method, r.URL)
	case operation == "CreateBucket":
		return s.createBucket(w, name, body)
	case b == nil:
		return failf(404, "NoSuchBucket", "The specified bucket does not exist")
	case b.foreign || owner != "" && owner != s.config.Account:
		return failf(403, "AccessDenied", "Access Denied")
	}
	w.Header().Set("X-Amz-Bucket-Region", b.region)
	if b.region != s.config.Region {
		return failf(301, "PermanentRedirect",
			"The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future "+
				"requests to this endpoint.")
	}
	found, exists := b.objects[key]
	switch operation {
	case "HeadBucket":
	case "DeleteBucket":
		if len(b.objects) > 0 {
			return failf(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
		}
		delete(s.buckets, name)
		w.WriteHeader(http.StatusNoContent)
	case "PutBucketLifecycleConfiguration":
		if !hasChecksum(r.Header) {
			return failf(400, "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
		}
		return checkLifecycle(body)
	case "ListObjectsV2":
		b.list(w, name, r.URL.Query())
	case "PutObject":
		if exists && r.Header.Get("If-None-Match") == "*" {
			return failf(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
		}
		b.objects[key] = newObject(body)
		w.Header().Set("ETag", b.objects[key].etag)
	case "HeadObject", "GetObject":
		if !exists {
			return failf(404, "NoSuchKey", "The specified key does not exist.")
		}
		w.Header().Set("ETag", found.etag)
		http.ServeContent(w, r, "", found.modified, bytes.NewReader(found.data))
	case "DeleteObject":
		delete(b.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		return b.onUpload(w, r, operation, name, key, body)
	}
	return nil
}

// createBucket makes a bucket in this region. The caller holds s.mu.
func (s *Server) createBucket(w http.ResponseWriter, name string, body []byte) *apiError {
	var in struct{ LocationConstraint string }
	if len(body) > 0 {
		if err := xml.Unmarshal(body, &in); err != nil {
			return failf(400, "MalformedXML",
				"The XML you provided was not well-formed or did not validate against our published schema")
		}
	}
	b := s.buckets[name]
	switch {
	case !bucketPattern.MatchString(name):
		return failf(400, "InvalidBucketName", "The specified bucket is not valid.")
	case b != nil && b.foreign:
		return failf(409, "BucketAlreadyExists",
			"The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please "+
				"select a different name and try again.")
	case b != nil && s.config.Region != "us-east-1": // where it is no error
		return failf(409, "BucketAlreadyOwnedByYou",
			"Your previous request to create the named bucket succeeded and you already own it.")
	case in.LocationConstraint == "us-east-1":
		return failf(400, "InvalidLocationConstraint", "The specified location-constraint is not valid")
	case cmp.Or(in.LocationConstraint, "us-east-1") != s.config.Region:
		return failf(400, "IllegalLocationConstraintException",
			"The %s location constraint is incompatible for the region specific endpoint this request was sent "+
				"to.", cmp.Or(in.LocationConstraint, "unspecified"))
	case b == nil:
		s.buckets[name] = newBucket(s.config.Region)
	}
	w.Header().Set("Location", "/"+name)
	return nil
}

func checkLifecycle(body []byte) *apiError {
	var in struct {
		Rule []struct {
			Status     string
			Filter     *struct{ Prefix string }
			Prefix     *string
			Expiration *struct{ Days *int }
		}
	}
	if err := xml.Unmarshal(body, &in); err != nil || len(in.Rule) == 0 {
		return failf(400, "MalformedXML",
			"The XML you provided was not well-formed or did not validate against our published schema")
	}
	for _, rule := range in.Rule {
		if rule.Status != "Enabled" && rule.Status != "Disabled" || rule.Filter == nil && rule.Prefix == nil {
			return failf(400, "MalformedXML",
				"The XML you provided was not well-formed or did not validate against our published schema")
		}
		if e := rule.Expiration; e != nil && e.Days != nil && *e.Days < 1 {
			return failf(400, "InvalidArgument", "'Days' for Expiration action must be a positive integer")
		}
	}
	return nil
}

// list answers ListObjectsV2.
func (b *bucket) list(w http.ResponseWriter, name string, query url.Values) {
	type content struct {
		Key, LastModified, ETag string
		Size                    int
		StorageClass            string
	}
	type prefix struct{ Prefix string }
	var l struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`

		Name, Prefix                                           string
		Delimiter, EncodingType, ContinuationToken, StartAfter string `xml:",omitempty"`
		KeyCount, MaxKeys                                      int
		IsTruncated                                            bool
		NextContinuationToken                                  string `xml:",omitempty"`
		Contents                                               []content
		CommonPrefixes                                         []prefix
	}
	l.Name, l.Prefix, l.Delimiter, l.EncodingType = name, query.Get("prefix"), query.Get("delimiter"),
		query.Get("encoding-type")
	l.ContinuationToken, l.StartAfter, l.MaxKeys = query.Get("continuation-token"), query.Get("start-after"), maxKeys
	if n, err := strconv.Atoi(query.Get("max-keys")); err == nil {
		l.MaxKeys = min(n, maxKeys)
	}
	text := func(key string) string { return key }
	if l.EncodingType == "url" {
		text = func(key string) string { return escape(key, true) }
	}
	after, last := cmp.Or(l.ContinuationToken, l.StartAfter), ""
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		rest, ok := strings.CutPrefix(key, l.Prefix)
		group := ""
		if i := strings.Index(rest, l.Delimiter); l.Delimiter != "" && i >= 0 {
			group = l.Prefix + rest[:i+len(l.Delimiter)]
		}
		if !ok || key <= after || group != "" && (group == last || strings.HasPrefix(after, group)) {
			continue
		}
		if l.IsTruncated = l.KeyCount == l.MaxKeys; l.IsTruncated {
			l.NextContinuationToken = last
			break
		}
		l.KeyCount++
		if last = cmp.Or(group, key); group != "" {
			l.CommonPrefixes = append(l.CommonPrefixes, prefix{text(group)})
			continue
		}
		o := b.objects[key]
		l.Contents = append(l.Contents, content{text(key), o.modified.UTC().Format("2006-01-02T15:04:05.000Z"), o.etag,
			len(o.data), "STANDARD"})
	}
	l.Prefix = text(l.Prefix)
	writeXML(w, 200, l)
}

// onUpload performs an operation on an upload in parts.
func (b *bucket) onUpload(w http.ResponseWriter, r *http.Request, operation, name, key string, body []byte) *apiError {
	type answer struct {
		XMLName                     xml.Name
		Bucket, Key, ETag, UploadId string `xml:",omitempty"`
	}
	if operation == "CreateMultipartUpload" {
		id := newID()
		b.uploads[id] = &upload{key, map[int]object{}}
		writeXML(w, 200, answer{XMLName: xml.Name{Local: "InitiateMultipartUploadResult"}, Bucket: name, Key: key,
			UploadId: id})
		return nil
	}
	id := r.URL.Query().Get("uploadId")
	u := b.uploads[id]
	if u == nil || u.key != key {
		return failf(404, "NoSuchUpload",
			"The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "+
				"completed.")
	}
	switch operation {
	case "UploadPart":
		n, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
		if err != nil || n < 1 || n > maxPart {
			return failf(400, "InvalidArgument", "Part number must be an integer between 1 and %d, inclusive", maxPart)
		}
		u.parts[n] = newObject(body)
		w.Header().Set("ETag", u.parts[n].etag)
	case "AbortMultipartUpload":
		delete(b.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case "CompleteMultipartUpload":
		var in struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		if err := xml.Unmarshal(body, &in); err != nil || len(in.Part) == 0 {
			return failf(400, "MalformedXML",
				"The XML you provided was not well-formed or did not validate against our published schema")
		}
		var whole []byte
		for i, p := range in.Part {
			if i > 0 && p.PartNumber <= in.Part[i-1].PartNumber {
				return failf(400, "InvalidPartOrder",
					"The list of parts was not in ascending order. Parts must be ordered by part number.")
			}
		}
		for i, p := range in.Part {
			part, ok := u.parts[p.PartNumber]
			switch {
			case !ok || strings.Trim(p.ETag, `"`) != strings.Trim(part.etag, `"`):
				return failf(400, "InvalidPart",
					"One or more of the specified parts could not be found. The part may not have been uploaded, or the specified "+
						"entity tag may not match the part's entity tag.")
			case i < len(in.Part)-1 && len(part.data) < minPart:
				return failf(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
			}
			whole = append(whole, part.data...)
		}
		o := newObject(whole)
		o.etag = fmt.Sprintf(`%s-%d"`, strings.TrimSuffix(o.etag, `"`), len(in.Part))
		b.objects[key] = o
		delete(b.uploads, id)
		writeXML(w, 200, answer{XMLName: xml.Name{Local: "CompleteMultipartUploadResult"}, Bucket: name, Key: key,
			ETag: o.etag})
	}
	return nil
}
