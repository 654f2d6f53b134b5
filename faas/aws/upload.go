//go:build !faas_only || faas_aws

package aws

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// architecture returns Lambda's name for the architecture of the package's executable. If neither
// the files nor the options tell it, an existing function keeps its own.
func (c *convergence) architecture(current *types.FunctionConfiguration) string {
	for _, f := range c.unit.Files {
		if f.Path == "" {
			continue
		}
		switch machineOf(f.Path) {
		case elf.EM_X86_64:
			return "x86_64"
		case elf.EM_AARCH64:
			return "arm64"
		}
	}
	switch {
	case c.options.architecture != "":
		return lambdaArch(c.options.architecture)
	case current != nil && len(current.Architectures) > 0:
		return string(current.Architectures[0])
	}
	return "x86_64"
}

// machineOf returns the processor that the header of an ELF file names, or elf.EM_NONE for any
// other file. It reads only the header: package elf allocates as much as a hostile file says.
func machineOf(path string) elf.Machine {
	f, err := os.Open(path)
	if err != nil {
		return elf.EM_NONE
	}
	defer f.Close()
	head := make([]byte, 20)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return elf.EM_NONE
	}
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		return elf.Machine(binary.BigEndian.Uint16(head[18:]))
	}
	return elf.Machine(binary.LittleEndian.Uint16(head[18:]))
}

// upload says how a request carries a package.
type upload struct {
	code     types.FunctionCode
	send     func(*lambda.Options) // for the request
	standsIn bool                  // it is not the package
}

// minStoodIn is the smallest package that is not sent with every attempt to create a function.
const minStoodIn = 256 << 10

// standIn makes the next attempt to create a function one without its package, which is then sent
// once, as an update, when the function exists: Lambda may refuse many attempts until it knows a
// role everywhere.
func (c *convergence) standIn(up *upload) error {
	if up.code.ZipFile == nil || up.standsIn || c.unit.Package.Size() < minStoodIn {
		return nil
	}
	var text bytes.Buffer
	archive := zip.NewWriter(&text)
	f, err := archive.CreateHeader(&zip.FileHeader{Name: bootstrapName, ExternalAttrs: 0o100755 << 16})
	if err == nil {
		_, err = f.Write([]byte("#!/bin/sh\nexit 1\n"))
	}
	if err = cmp.Or(err, archive.Close()); err != nil {
		return err
	}
	*up = upload{code: types.FunctionCode{ZipFile: text.Bytes()}, send: func(*lambda.Options) {}, standsIn: true}
	return nil
}

// maxSlice is the largest package, in bytes, that is sent with every function even if a bucket is
// set. A larger one is put into the bucket once, and every function takes it from there.
const maxSlice = 4 << 20

// upload puts a package into the bucket if many functions may share it or if it is too big for a
// request. Any other package goes with the request itself.
func (c *convergence) upload(ctx context.Context) (*upload, error) {
	pkg := c.unit.Package
	c.report(faas.Progress{Step: "upload", TotalBytes: pkg.Size()})
	if c.storesPackages() && pkg.Size() > min(maxSlice, c.direct) {
		where, err := c.putPackage(ctx, c.unit)
		switch {
		case err == nil:
			c.object = where
			return &upload{code: types.FunctionCode{S3Bucket: &where.bucket, S3Key: &where.key},
				send: func(*lambda.Options) {}}, nil
		case codeOf(err) != faas.ErrPermissionDenied || pkg.Size() > c.direct:
			return nil, err
		}
		c.logger.warn("the package is sent with every function, as it cannot be put into the bucket", "error", err)
	}
	mark := []byte(rand.Text())
	return &upload{code: types.FunctionCode{ZipFile: mark}, send: func(o *lambda.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Serialize.Add(streamed(pkg, mark), middleware.After)
		})
	}}, nil
}

func (c *convergence) uploaded() faas.Progress {
	return faas.Progress{Step: "upload", Bytes: c.unit.Package.Size(), TotalBytes: c.unit.Package.Size()}
}

// storeCode calls f, which sends code. If f fails, the error says what is wrong with the package.
func (c *convergence) storeCode(ctx context.Context, f func() error) error {
	err := c.withRoom(ctx, f)
	switch {
	case err == nil:
		return nil
	// The object has expired since it was seen.
	case c.object != (object{}) && strings.Contains(err.Error(), "S3 Error Code: NoSuchKey"):
		c.packages.Forget(c.object)
		if _, perr := c.putPackage(ctx, c.unit); perr != nil {
			return perr
		}
		return c.withRoom(ctx, f)
	case signatureExpired(err):
		return faas.JobErrorf(faas.ErrTimeout, "deploy", faas.AWSLambda, c.job.JobID,
			"the line is too slow for the package of %.1f MB: Lambda takes a request only if all of it has arrived within "+
				`5 minutes; set the option "bucket" or "create_bucket", which have no such limit, or strip the binary `+
				`(-ldflags=-s -w): %w`, float64(c.unit.Package.Size())/1e6, err)
	}
	return err
}

// signatureExpired reports whether a request was refused because it was signed too long ago
// although the clocks agree: it was under way for all that time. The SDK corrects a wrong clock
// itself.
func signatureExpired(err error) bool {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || !strings.Contains(err.Error(), "Signature expired") {
		return false
	}
	theirs, perr := http.ParseTime(answer.Response.Header.Get("Date"))
	return perr != nil || time.Since(theirs).Abs() < time.Minute
}

// streamed sends a package from its file in place of the mark that stands for it in a request. The
// SDK's own request would hold the package in memory several times.
func streamed(pkg *faas.Package, mark []byte) middleware.SerializeMiddleware {
	return middleware.SerializeMiddlewareFunc("StreamPackage",
		func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (
			out middleware.SerializeOutput, m middleware.Metadata, err error,
		) {
			req, ok := in.Request.(*smithyhttp.Request)
			if !ok {
				return out, m, fmt.Errorf("the request is a %T", in.Request)
			}
			text, err := io.ReadAll(req.GetStream())
			if err != nil {
				return out, m, err
			}
			quote := []byte(`"`)
			head, tail, found := bytes.Cut(text, slices.Concat(quote, base64.StdEncoding.AppendEncode(nil, mark), quote))
			if !found {
				return out, m, errors.New("the package has no place in the request")
			}
			file, err := pkg.Open()
			if err != nil {
				return out, m, err
			}
			defer file.Close()
			body := &packageBody{head: append(head, '"'), tail: slices.Concat(quote, tail), zip: file, size: pkg.Size()}
			if in.Request, err = req.SetStream(body); err != nil {
				return out, m, err
			}
			return next.HandleSerialize(ctx, in)
		})
}

// packageBody is JSON with a package in base64 between head and tail. It has a lock, because an
// abandoned connection may still read it while it is sent again.
type packageBody struct {
	head, tail []byte
	zip        io.ReadSeeker
	size       int64

	mu    sync.Mutex
	at    int64
	raw   []byte // a block of the package
	block []byte // encoded
	from  int64  // the first byte of block
}

// blockSize is how much of a package is encoded at a time. Only the last block has padding.
const blockSize = 48 << 10

func (b *packageBody) encoded() int64 { return int64(base64.StdEncoding.EncodedLen(int(b.size))) }

func (b *packageBody) length() int64 { return int64(len(b.head)) + b.encoded() + int64(len(b.tail)) }

// Read implements io.Reader.
func (b *packageBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at
	part := b.head
	if at >= int64(len(b.head)) {
		if at -= int64(len(b.head)); at < b.encoded() {
			if err := b.encode(at); err != nil {
				return 0, err
			}
			part, at = b.block, at-b.from
		} else {
			part, at = b.tail, at-b.encoded()
		}
	}
	if at >= int64(len(part)) {
		return 0, io.EOF
	}
	n := copy(p, part[at:])
	b.at += int64(n)
	return n, nil
}

// encode makes block the one that contains the encoded byte at.
func (b *packageBody) encode(at int64) error {
	encodedSize := int64(base64.StdEncoding.EncodedLen(blockSize))
	i := at / encodedSize
	if len(b.block) > 0 && b.from == i*encodedSize {
		return nil
	}
	b.raw = slices.Grow(b.raw[:0], blockSize)[:min(blockSize, b.size-i*blockSize)]
	if _, err := b.zip.Seek(i*blockSize, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.ReadFull(b.zip, b.raw); err != nil {
		return fmt.Errorf("the package has changed: %w", err)
	}
	b.block, b.from = base64.StdEncoding.AppendEncode(b.block[:0], b.raw), i*encodedSize
	return nil
}

// Seek implements io.Seeker.
func (b *packageBody) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.length()
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	b.at = offset
	return offset, nil
}
