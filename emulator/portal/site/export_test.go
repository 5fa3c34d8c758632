package site

import (
	"slices"

	"hsmemu/emulator/portal/cloudhsm"
)

// ReadPaths are the patterns of the pages that GET reads.
func (p *Portal) ReadPaths() []string { return slices.Clone(p.pages.paths) }

// Connections are the HSMs that programs and pages see.
func (p *Portal) Connections() []cloudhsm.Connection { return p.hsms.Connections() }

// Hosts are the names for a certificate.
var Hosts = hosts
