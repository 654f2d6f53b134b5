//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"debug/elf"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// architecture is Lambda's name for that of the package's executable. Where neither the files nor the options tell, an existing function keeps its own.
func (c *convergence) architecture(current *types.FunctionConfiguration) string {
	for _, f := range c.unit.Files {
		if f.Path == "" {
			continue
		}
		if bin, err := elf.Open(f.Path); err == nil {
			machine := bin.Machine
			bin.Close()
			switch machine {
			case elf.EM_X86_64:
				return "x86_64"
			case elf.EM_AARCH64:
				return "arm64"
			}
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

// code is the package as a request carries it. A package that is too big for a request is put into the bucket first.
func (c *convergence) code(ctx context.Context) (*types.FunctionCode, error) {
	c.report(faas.Progress{Step: "upload", TotalBytes: c.unit.Package.Size()})
	if c.unit.Package.Size() > c.direct {
		where, err := c.putPackage(ctx, c.unit)
		if err != nil {
			return nil, err
		}
		c.object = where
		return &types.FunctionCode{S3Bucket: &where.bucket, S3Key: &where.key}, nil
	}
	zip, err := readPackage(c.unit.Package)
	if err != nil {
		return nil, faas.JobErrorf(faas.ErrInternal, "deploy", faas.AWSLambda, c.job.JobID, "the package cannot be read: %w", err)
	}
	return &types.FunctionCode{ZipFile: zip}, nil
}

func (c *convergence) uploaded() faas.Progress {
	return faas.Progress{Step: "upload", Bytes: c.unit.Package.Size(), TotalBytes: c.unit.Package.Size()}
}

func readPackage(p *faas.Package) ([]byte, error) {
	f, err := p.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zip := make([]byte, p.Size())
	if _, err := io.ReadFull(f, zip); err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.Path(), err)
	}
	return zip, nil
}
