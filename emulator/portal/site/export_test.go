package site

import "slices"

// ReadPaths are the patterns of the pages that GET reads.
func (p *Portal) ReadPaths() []string { return slices.Clone(p.pages.paths) }
