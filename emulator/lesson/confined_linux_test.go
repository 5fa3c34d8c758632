package lesson

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"hsmemu/emulator"
	"hsmemu/emulator/program"
)

// Scripts of a lesson write into its folders and nowhere else, whatever they say and whatever
// kind of script they are, and neither into the lesson nor into what people's shells run.
func TestSession_Confined(t *testing.T) {
	if !program.Confines() {
		t.Log("nothing to see without Landlock, which Linux has from 5.19 on and nothing installs")
		return
	}
	out := filepath.Join(t.TempDir(), "out")
	tries := "OUT=" + out + `
cd / && echo x > ".$OUT"; cd "$HOME"
d=/; touch "${d}$OUT"
ln -s / root; echo x > "root$OUT"
perl -e 'open(my $f, ">", $ARGV[0]); print $f "x"' "$OUT"
(setsid sh -c 'echo x > "$0"; touch tried' "$OUT") &
for file in bin/lesson bin/hsmemu lesson/index.json lesson/verify.sh commands.sh; do echo x > "$HSMEMU_LESSON/$file"; rm -f "$HSMEMU_LESSON/$file"; done
until test -e tried; do sleep 0.01; done
test -e "$HSMEMU_LESSON/bin/lesson" && dir=$(mktemp -d) && echo x > "$dir/x" && rm -r "$dir" && mkdir -p made && echo x > made/x && rm root tried
`
	l, err := Load(fstest.MapFS{
		"index.json": {Data: []byte(`{"title": "T", "details": {"intro": {"background": "setup.sh"}, "steps": [{"title": "S", "verify": "verify.sh"}]}}`)},
		"setup.sh":   {Data: []byte("true\n")}, "verify.sh": {Data: []byte("true\n")},
	})
	require.NoError(t, err)
	l.files.(fstest.MapFS)["setup.sh"] = &fstest.MapFile{Data: []byte(tries)}
	l.files.(fstest.MapFS)["verify.sh"] = &fstest.MapFile{Data: []byte(tries)}
	p, err := Begin(t.Context(), l, Options{Program: "hsmemu", World: emulator.System(), Limit: time.Minute})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.NoFileExists(t, out)
	v, err := p.Check(t.Context())
	require.NoError(t, err)
	require.True(t, v.Solved, v.Says)
	said, code, err := p.run(t.Context(), "", "set +e\n"+tries, time.Minute, true)
	require.NoError(t, err)
	require.Zero(t, code, said)
	require.NoFileExists(t, out)
	text, err := os.ReadFile(filepath.Join(p.Dir(), "lesson", "verify.sh"))
	require.NoError(t, err)
	require.Equal(t, tries, string(text))
}
