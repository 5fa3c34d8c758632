package lesson_test

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator/lesson"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	_, err := lesson.Open(dir)
	var of *lesson.FolderError
	require.ErrorAs(t, err, &of)
	require.Equal(t, dir, of.Dir)
	require.ErrorAs(t, err, new(*lesson.Problem))
	require.EqualError(t, err, "lesson "+dir+": "+of.Err.Error())
	_, err = lesson.Open(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	l, err := lesson.Open("ours/first-steps")
	require.NoError(t, err)
	require.NotEmpty(t, l.Steps)
}
