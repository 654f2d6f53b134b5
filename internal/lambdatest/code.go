package lambdatest

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Limits of packages.
const (
	maxDirect   = 50 << 20
	maxUnpacked = 250 << 20
)

// unpack checks a package and writes it to disk, once for equal packages.
func (s *Server) unpack(from packageSource) (*code, *apiError) {
	data := from.ZipFile
	switch {
	case from.S3Bucket != "":
		s.mu.Lock()
		object, err := s.fetch(from)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		data = object
	case len(data) == 0:
		return nil, invalid("Please provide a source for function code.")
	case len(data) > maxDirect:
		return nil, failf(413, "RequestEntityTooLargeException",
			"Request must be smaller than 69905067 bytes for the CreateFunction operation")
	}
	sum := sha256Base64(data)
	dir := filepath.Join(s.dir, "code-"+hex.EncodeToString([]byte(sum))[:40])
	pkg := &code{sha256: sum, size: int64(len(data)), dir: dir}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(dir); err == nil {
		return pkg, nil
	}
	if err := extract(data, dir); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return pkg, nil
}

// fetch reads a package from S3, as Lambda does. The caller holds s.mu.
func (s *Server) fetch(from packageSource) ([]byte, *apiError) {
	bad := func(code, message string, args ...any) *apiError {
		return invalid("Error occurred while GetObject. S3 Error Code: "+code+". S3 Error Message: "+message, args...)
	}
	b := s.buckets[from.S3Bucket]
	if b == nil {
		return nil, bad("NoSuchBucket", "The specified bucket does not exist")
	}
	if b.region != s.config.Region {
		return nil, bad("PermanentRedirect", "The bucket is in this region: %s. Please use this region to retry the request",
			b.region)
	}
	if b.foreign {
		return nil, failf(403, "AccessDeniedException",
			"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for "+
				"%s/%s.", from.S3Bucket, from.S3Key)
	}
	o, ok := b.objects[from.S3Key]
	if !ok {
		return nil, bad("NoSuchKey", "The specified key does not exist.")
	}
	return o.data, nil
}

func extract(data []byte, dir string) *apiError {
	bad := func(why string) *apiError {
		return failf(400, "InvalidParameterValueException",
			"Could not unzip uploaded file. Please check your file, then try to upload again. (%s)", why)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return bad(err.Error())
	}
	left := int64(maxUnpacked)
	for _, entry := range z.File {
		if !filepath.IsLocal(entry.Name) {
			return bad("entry " + entry.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(entry.Name))
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return bad(err.Error())
		}
		in, err := entry.Open()
		if err != nil {
			return bad(err.Error())
		}
		out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, entry.Mode().Perm())
		if err != nil {
			in.Close()
			return bad(err.Error())
		}
		n, err := io.Copy(out, io.LimitReader(in, left+1))
		in.Close()
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return bad(err.Error())
		}
		if left -= n; left < 0 {
			return invalid("Unzipped size must be smaller than %d bytes", maxUnpacked)
		}
	}
	return nil
}
