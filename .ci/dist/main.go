// Command dist writes an OCI image layout of hsmemu without a container engine:
// an image for each architecture, of two layers at most, the folder of other
// programs and the program itself. The same files and time give the same bytes.
//
//	dist -o FOLDER -version V -time SECONDS ARCH=BINARY[,ROOT]...
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is who the program is in a container, by user and group number.
const user = 10001

// folders of the image that are the user's, with their modes: the cards, the
// socket for other containers, and what is temporary.
var folders = []tar.Header{
	{Name: "hsm/", Mode: 0o755, Uid: user, Gid: user},
	{Name: "tmp/", Mode: 0o1777},
	{Name: "var/", Mode: 0o755},
	{Name: "var/lib/", Mode: 0o755},
	{Name: "var/lib/hsmemu/", Mode: 0o700, Uid: user, Gid: user},
}

func main() {
	out := flag.String("o", "", "folder of the layout")
	version := flag.String("version", "", "version of the program")
	seconds := flag.Int64("time", 0, "when it was made, in seconds since 1970")
	flag.Parse()
	if err := write(*out, *version, time.Unix(*seconds, 0).UTC(), flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: dist -o FOLDER -version V -time SECONDS ARCH=BINARY[,ROOT]...")

func write(out, version string, at time.Time, images []string) error {
	if out == "" || version == "" || len(images) == 0 {
		return errUsage
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, one := range images {
		arch, files, ok := strings.Cut(one, "=")
		if !ok {
			return errUsage
		}
		binary, root, _ := strings.Cut(files, ",")
		image, err := build(arch, binary, root, version, at)
		if err != nil {
			return fmt.Errorf("image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	p, err := layout.Write(out, empty.Index)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version})
	if err := p.ReplaceIndex(index, match.Name(version), name); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return nil
}

// build is the image for one architecture; root is empty for the program alone.
func build(arch, binary, root, version string, at time.Time) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	var layers []v1.Layer
	add := func(write func(*tar.Writer) error) error {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(write(w), w.Close()); err != nil {
			return err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
			tarball.WithMediaType(types.OCILayer))
		layers = append(layers, layer)
		return err
	}
	if root != "" {
		if err := add(func(w *tar.Writer) error { return tree(w, root, at) }); err != nil {
			return nil, fmt.Errorf("layer of %s: %w", root, err)
		}
	}
	if err := add(func(w *tar.Writer) error { return program(w, binary, root == "", at) }); err != nil {
		return nil, fmt.Errorf("layer of %s: %w", binary, err)
	}
	image, err := mutate.AppendLayers(image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", arch, v1.Time{Time: at}
	for i := range file.History {
		file.History[i].Created = v1.Time{Time: at}
	}
	file.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/hsmemu"},
		User:       fmt.Sprintf("%d:%d", user, user),
		Env:        []string{"PATH=/usr/bin", "HSMEMU_STATE=/var/lib/hsmemu", "HOME=/var/lib/hsmemu"},
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "hsmemu",
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, file)
}

// notices is the folder of the image with the licenses of what is in the program.
const notices = "usr/share/doc/hsmemu/"

// program writes the program with the licenses beside it, in BINARY.notices.txt,
// and the folders that it uses; usr, too, where no other layer has it.
func program(w *tar.Writer, binary string, alone bool, at time.Time) error {
	all := append([]tar.Header{{Name: "usr/share/", Mode: 0o755}, {Name: "usr/share/doc/", Mode: 0o755}, {Name: notices, Mode: 0o755}}, folders...)
	if alone {
		all = append([]tar.Header{{Name: "usr/", Mode: 0o755}, {Name: "usr/bin/", Mode: 0o755}}, all...)
	}
	for _, h := range all {
		h.Typeflag, h.ModTime = tar.TypeDir, at
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		from, to string
		mode     int64
	}{{binary, "usr/bin/hsmemu", 0o755}, {binary + ".notices.txt", notices + "notices.txt", 0o644}} {
		content, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: f.to, Mode: f.mode, Size: int64(len(content)), ModTime: at}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return nil
}

// tree writes a folder as root's, in the order of the names, without set-user-ID
// bits and with one time for all.
func tree(w *tar.Writer, root string, at time.Time) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(name); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		within, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		h.Name = filepath.ToSlash(within)
		if d.IsDir() {
			h.Name = path.Clean(h.Name) + "/"
		}
		h.Mode &= 0o777
		h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime, h.Format = 0, 0, "", "", at, tar.FormatPAX
		h.AccessTime, h.ChangeTime, h.PAXRecords = time.Time{}, time.Time{}, nil
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
}
