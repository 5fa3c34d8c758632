// Package protocol holds the chapters about the card's interface as files, for
// programs that show them. The chapters are written for people; README.md is their
// index.
package protocol

import "embed"

// Chapters are the chapters, in Markdown.
//
//go:embed *.md
var Chapters embed.FS
