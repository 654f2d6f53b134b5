package cli

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/profile"
)

// profilesFile is where the profiles of a binary are written, and what is there already.
type profilesFile struct {
	path  string
	older *profile.Set // nil if there is no file, or if it is to be begun anew
}

// findProfiles chooses the file for the profiles of a binary: the one that deployments read. That is the one beside the
// binary, unless the directory above holds the binary's already, or is where cargo's builds have it.
func findProfiles(binary, output string, replace bool) (profilesFile, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return profilesFile{}, err
	}
	file, err := faas.InspectBinary(path)
	if err != nil {
		return profilesFile{}, err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".exe")
	own := func(p *profile.Set) bool { return p.BinarySHA256 == file.SHA256 || p.BlueprintName == name }
	foreign := func(p *profile.Set) bool { return p.BinarySHA256 != "" && !own(p) }

	above := serverless.ProfilesPath(path)
	at := cmp.Or(output, filepath.Join(filepath.Dir(path), filepath.Base(above)))
	older, err := profile.Read(at)
	if output == "" && (faas.CodeOf(err) == faas.ErrNotFound || err == nil && foreign(older)) {
		there, aboveErr := profile.Read(above)
		dir := filepath.Dir(path)
		cargo := filepath.Base(filepath.Dir(dir)) == "target" &&
			slices.Contains([]string{"release", "debug"}, filepath.Base(dir))
		if aboveErr == nil && own(there) || cargo && (aboveErr != nil || !foreign(there)) {
			at, older, err = above, there, aboveErr
		}
	}
	switch {
	case replace, faas.CodeOf(err) == faas.ErrNotFound:
		return profilesFile{path: at}, nil
	case err != nil:
		return profilesFile{}, fmt.Errorf("%w: put it right, or begin it anew with --replace", err)
	case foreign(older):
		return profilesFile{}, faas.Errorf(faas.ErrConflict, "profile", "",
			"%s has the profiles of another blueprint, %q: move this binary into a directory of its own, or begin the file "+
				"anew with --replace",
			at, older.BlueprintName)
	}
	return profilesFile{at, older}, nil
}

// merge completes new profiles by what the file has, and says what was kept.
func (f *profilesFile) merge(p *profile.Set) (kept []uint32, remarks, warnings []string) {
	if f.older == nil {
		return nil, nil, nil
	}
	measured := map[uint32]serverless.JobProfile{}
	for id, job := range p.Jobs {
		measured[id] = job
	}
	kept = p.Merge(f.older)
	var declarations []uint32
	for id, job := range measured {
		if p.Jobs[id] != job {
			declarations = append(declarations, id)
		}
	}
	slices.Sort(declarations)
	if len(kept) > 0 {
		remarks = append(remarks, "kept the profiles of "+jobList(kept)+"; --replace begins the file anew")
	}
	if len(declarations) > 0 {
		remarks = append(remarks, "kept what was declared of "+jobList(declarations)+"; --replace begins the file anew")
	}
	if len(kept) > 0 && f.older.BinarySHA256 != "" && f.older.BinarySHA256 != p.BinarySHA256 {
		warnings = append(warnings, "another build of the binary was measured for "+jobList(kept)+": profile them again")
	}
	return kept, remarks, warnings
}

func jobList(ids []uint32) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatUint(uint64(id), 10)
	}
	if len(ids) == 1 {
		return "job " + texts[0]
	}
	return "jobs " + strings.Join(texts, ", ")
}
