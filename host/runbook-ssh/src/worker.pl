# The helper of a machine that has perl: does what is asked of files by itself, and hands everything else to a shell.
#
# It reads blocks, a letter and a length on a line and so many bytes: S is text for the shell; F is a file operation, as fields
# with their lengths before them (a nonce, a name, its arguments); D is data for the operation before it; B is the nonce of the one
# that follows, and the process groups of earlier commands: where one is still alive, it could write in between, and nothing is done
# any more. It answers as the shell would, with the same marks, on one stream; see frame.rs, and files/ for what the operations mean.
use strict;
our ($sh, $to_sh, $temp, $sha);
my $umask = umask;
delete @ENV{qw(ENV BASH_ENV CDPATH)};
$ENV{LC_ALL} = "C";
for my $d (qw(/usr/local/sbin /usr/sbin /sbin /snap/bin)) { $ENV{PATH} .= ":$d" if ":$ENV{PATH}:" !~ /:\Q$d\E:/ }
my $home = $ENV{HOME};
defined $home && chdir $home or chdir "/";
$SIG{HUP} = $SIG{INT} = $SIG{TERM} = sub { exit 1 };
$SIG{PIPE} = "IGNORE";
# Whoever ends the shell ends us: somebody waits for its answer.
$SIG{CHLD} = sub { local ($?, $!); if ($sh && waitpid($sh, 1) == $sh) { undef $sh; exit 1 } };
END { unlink $temp if defined $temp }

sub fail { die [@_] }
sub failed { fail("failed", @_) }
sub brand_new { return eval { require Fcntl; Fcntl::O_RDWR() | Fcntl::O_CREAT() | Fcntl::O_EXCL() } // 0302 }
sub bytes {
    my ($n, $b) = (shift, "");
    while ($n > length $b) { my $r = read(DATA, $b, $n - length $b, length $b); exit 1 if !$r }
    return $b;
}
sub block {
    defined(my $head = <DATA>) or return;
    return split / /, $head;
}
sub put {
    my ($to, $b) = @_;
    my $at = 0;
    while ($at < length $b) {
        my $n = syswrite $to, $b, 131072, $at;
        if (defined $n) { $at += $n } elsif ($! != 4) { return }
    }
    return 1;
}
sub here { my $d = readlink "/proc/self/cwd"; return defined $d ? $d : words("sh", "-c", "pwd -P") }
sub real { return words("readlink", "-f", shift) }
# What a program says, without the end of the line; undefined where it failed. Modules are not counted on: some perls come alone.
sub words { my $w = output("<", "/dev/null", @_); return $? || $w !~ s/\n\z// || $w eq "" ? undef : $w }

# Where the directory really is, what of it does not exist yet, and whether we are there.
sub near {
    my ($n, $rest) = (shift, "");
    until (chdir $n) {
        if (-e $n || -l $n) {
            my $r = real($n);
            return defined $r ? ($r, $rest, 0) : ();
        }
        $n =~ s{/([^/]*)\z}{}s or return;
        $rest = "/$1$rest";
        $n = "/" if $n eq "";
    }
    my $r = here();
    return defined $r && $r =~ m{\A/} ? ($r, $rest, 1) : ();
}
sub below { my ($r, $name) = @_; return ($r eq "/" ? "" : $r) . "/$name" }
sub jailed {
    my ($p, $jail) = @_;
    return 1 if $jail eq "";
    my ($dir, $name) = $jail =~ m{\A(.*)/([^/]*)\z}s;
    my ($r, $rest) = near($dir eq "" ? "/" : $dir) or return;
    return 1 if $p eq below($r eq "/" ? $rest : "$r$rest", $name);
    ($r, $rest) = near($jail) or return;
    my $j = $r eq "/" ? $rest : "$r$rest";
    return $p eq $j || substr($p, 0, 1 + length $j) eq "$j/";
}
sub outside { fail("denied", "it lies outside of what is granted") }

# SHA-256 of a file of about so many bytes. Its start pays for openssl where there is much: that uses what the processor has.
sub sha {
    my ($p, $size) = @_;
    if ($size <= 8388608) {
        $sha = eval { require Digest::SHA } ? 1 : 0 if !defined $sha;
        if ($sha) {
            open my $f, "<", $p or failed("$!");
            return Digest::SHA->new(256)->addfile($f)->hexdigest;
        }
    }
    for my $tool ([qw(openssl dgst -sha256 -r)], ["sha256sum"], [qw(shasum -a 256)]) {
        next if $size <= 8388608 && $$tool[0] eq "openssl";
        my $h = output("<", $p, @$tool);
        return $1 if $h =~ /\A\\?([0-9a-f]{64})/;
    }
    failed("no tool there makes a SHA-256");
}
# What a program says, with its errors; its status is in $?.
sub output {
    my ($way, $in, @argv) = @_;
    pipe my $r, my $w or failed("$!");
    my $pid = fork;
    failed("$!") if !defined $pid;
    if (!$pid) {
        $SIG{PIPE} = "DEFAULT";
        undef $temp;
        open STDIN, $way, $in and open STDOUT, ">&", $w and open STDERR, ">&", $w and exec { $argv[0] } @argv;
        print STDERR "$argv[0]: $!\n";
        exec "sh", "-c", "exit 127";
        kill "KILL", $$;
    }
    close $w;
    local $/;
    my $said = <$r>;
    1 while waitpid($pid, 0) < 0 && $! == 4;
    return $said;
}

sub line {
    my @s = @_;
    return sprintf "%x/%d/%d/%d/%s/%s", @s[2, 7, 4, 5], scalar(getpwuid $s[4]) // "UNKNOWN", scalar(getgrgid $s[5]) // "UNKNOWN";
}
sub number {
    my ($find, $wanted, $name, $is) = @_;
    return "" if $wanted eq "" || $wanted eq $name || $wanted eq $is;
    return $wanted if $wanted =~ /\A[0-9]+\z/;
    return $find->($wanted) // "";
}

sub look_at {
    my ($what, $path, $parent, $name, $jail, $wanted, $keep, $user, $group) = @_;
    my ($r, $rest, $sure) = near($parent) or failed("no permission to enter $parent");
    my $p = $name eq "" ? "/" : below($r eq "/" ? $rest : "$r$rest", $name);
    if ($what eq "sha256" && -l $p) {
        my $t = real($p);
        if (!defined $t) { $jail eq "" ? fail("notfound", "the link leads nowhere") : outside() }
        $p = $t;
        jailed($p, $jail) or outside();
    }
    elsif ($path ne $jail) { jailed($p, $jail) or outside() }
    my @s = $sure && $rest ne "" ? () : lstat $p;
    if (!@s) {
        my $absent = $sure && $rest ne "" || $! == 2 || $! == 20;
        failed("$!") if !$absent;
        fail("notfound", "nothing is there") if $what eq "sha256";
        return ("K", ("") x 5, $sure ? $rest =~ tr{/}{} : 0, "");
    }
    my ($line, $t, $h, $k, $content) = (line(@s), "", "", "");
    if (-l _) { $t = readlink $p; failed("the link cannot be read") if !defined $t }
    elsif (-f _) {
        if ($wanted ne "-") {
            failed("Permission denied") if !-r $p;
            $h = sha($p, $s[7]);
            $k = $s[7] if $what =~ /prior|tree/ && $h ne $wanted && $s[7] <= $keep;
        }
    }
    elsif ($what eq "sha256") { fail("invalid", "it is not a regular file") }
    elsif (-d _ && $what eq "tree") {
        $content = archive($p, $keep);
        $k = length $content if defined $content;
    }
    my @names = (split m{/}, $line)[4, 5];
    my @answer = ("K", $line, $t, $h, number(sub { scalar getpwnam shift }, $user, $names[0], $s[4]),
        number(sub { scalar getgrnam shift }, $group, $names[1], $s[5]), 0, $k);
    if (defined $content) { push @answer, $content }
    elsif ($k ne "") {
        open my $f, "<", $p or failed("$!");
        $content = "";
        1 while read $f, $content, $k - length $content, length $content;
        push @answer, $content;
    }
    return @answer;
}
# A tar archive of a directory; undefined where it is larger, or could not be made whole.
sub archive {
    my ($p, $keep) = @_;
    pipe my $r, my $w or failed("$!");
    my $pid = fork;
    failed("$!") if !defined $pid;
    if (!$pid) {
        $SIG{PIPE} = "DEFAULT";
        open STDIN, "<", "/dev/null" and open STDOUT, ">&", $w and open STDERR, ">", "/dev/null"
            and exec { "tar" } "tar", "-C", $p, "-cf", "-", ".";
        kill "KILL", $$;
    }
    close $w;
    my ($content, $n) = ("");
    while ($keep >= length $content) {
        $n = read $r, $content, 131072, length $content;
        last if !$n;
    }
    close $r;
    1 while waitpid($pid, 0) < 0 && $! == 4;
    return defined $n && $n == 0 && $? == 0 ? $content : undef;
}
sub ask {
    my $said = "";
    while (my @question = splice @_, 0, 9) {
        my @answer = eval { look_at(@question) };
        if ($@) { ref $@ or die $@; @answer = ("X", @{$@}) }
        $said .= join "", map { "$_\0" } @answer;
    }
    return $said;
}
sub look {
    my (undef, $path, $parent, $name, $jail, $limit) = @_;
    my ($r, $rest) = near($parent) or failed("no permission to enter $parent");
    my $p = $name eq "" ? "/" : below($r eq "/" ? $rest : "$r$rest", $name);
    if (-l $p) {
        my $t = real($p);
        if (!defined $t) { $jail eq "" ? fail("notfound", "the link leads nowhere") : outside() }
        $p = $t;
        jailed($p, $jail) or outside();
    }
    elsif ($path ne $jail) { jailed($p, $jail) or outside() }
    my @s = stat $p;
    if (!@s) { $! == 2 || $! == 20 ? fail("notfound", "nothing is there") : failed("$!") }
    fail("invalid", "it is not a regular file") if !-f _;
    open my $f, "<", $p or failed("$!");
    my $content = "";
    while ($limit > length $content) {
        my $n = read $f, $content, $limit - length $content, length $content;
        defined $n or failed("$!");
        last if !$n;
    }
    return "K\0$content";
}

# Goes to where a change is to be made. Gives where the directory is, and what of it does not exist yet.
sub begin {
    my ($parent, $name, $jail) = @_;
    my ($r, $rest) = near($parent) or failed("no permission to enter $parent");
    my $path = $parent eq "/" ? "/$name" : "$parent/$name";
    $path eq $jail || jailed(below($r eq "/" ? $rest : "$r$rest", $name), $jail) or outside();
    return ($r, $rest);
}
sub enter {
    my $r = shift;
    chdir $r or failed("no permission to enter $r");
    here() eq $r or fail("conflict", "its directory was moved meanwhile");
}
sub enter_parent {
    my ($r, $rest) = @_;
    $rest eq "" or failed("the directory $r$rest does not exist; make it first");
    enter($r);
}
sub differs { fail("conflict", "it is not any more what it was when it was looked at") }
sub same {
    my ($n, $was, $mark) = @_;
    return !(-e $n || -l $n) if $was eq "-";
    return -f $n && !-l $n && ($mark eq "" || do { my ($h, $size) = split / /, $mark; sha($n, $size || 0) eq $h }) if $was eq "f";
    return -d $n && !-l $n if $was eq "d";
    return -l $n && readlink $n eq $mark if $was eq "l";
    return -e $n && !-l $n;
}
sub id {
    my ($kind, $find, $wanted) = @_;
    return -1 if $wanted eq "";
    my $n = $find->($wanted);
    return $n if defined $n;
    $wanted =~ /\A[0-9]+\z/ or failed("invalid $kind: $wanted");
    return $wanted;
}
# Owner and group, then mode (empty: as it is), of something that has these now. Gives whether anything was changed.
sub dress {
    my ($what, $mode, $user, $group, @s) = @_;
    my ($uid, $gid) = (id("user", sub { scalar getpwnam shift }, $user), id("group", sub { scalar getgrnam shift }, $group));
    my $changed = 0;
    if ($uid >= 0 && $uid != $s[4] || $gid >= 0 && $gid != $s[5]) {
        chown $uid, $gid, $what or failed("$!");
        @s = stat $what;
        $changed = 1;
    }
    if ($mode ne "" && oct($mode) != ($s[2] & 07777)) {
        chmod oct($mode), $what or failed("$!");
        $changed = 1;
    }
    return $changed;
}
sub boot {
    open my $f, "<", shift or return "-";
    my $b = <$f>;
    return defined $b && $b =~ /(\S+)/ ? $1 : "-";
}
sub verdict { return shift() ? "K\0changed\0" : "K\0unchanged\0" }

sub change_file {
    my ($fed, $started, @a) = @_;
    my ($parent, $name, $jail, $was, $mark, $mode, $user, $group, $beside, $size, undef, $text, @validate) = @a;
    enter_parent(begin(@a));
    my ($n, $t) = ("./$name", "./$beside");
    if ($was eq "f" && ($mode eq "" || $user eq "" || $group eq "")) {
        my @s = stat $n or differs();
        $mode = sprintf "%o", $s[2] & 07777 if $mode eq "";
        $user = $s[4] if $user eq "";
        $group = $s[5] if $group eq "";
    }
    # For us alone until it is dressed, unless it gets what the system gives to new files.
    my $plain = $mode eq "" && "$user$group" eq "";
    umask($plain ? 022 : 077);
    $mode = "644" if $mode eq "" && !$plain;
    sysopen my $f, $t, brand_new(), 0666 or failed("$!");
    $temp = here() . "/$beside";
    if ($fed) {
        $started->();
        my $left = $size;
        while ($left > 0) {
            my ($letter, $length) = block() or exit 1;
            $letter eq "D" && $length <= $left or exit 1;
            while ($length > 0) {
                my $piece = bytes($length > 131072 ? 131072 : $length);
                $length -= length $piece;
                $left -= length $piece;
                put($f, $piece) or failed("$!");
            }
        }
    }
    else {
        put($f, $text) or failed("$!");
        length $text == $size or failed("what arrived is not what was sent: " . length($text) . " bytes of $size");
    }
    dress($f, $mode, $user, $group, stat $f);
    output("<", "/dev/null", "chcon", "--reference=$n", $t) if $was eq "f" && -e "/sys/fs/selinux/enforce";
    if (@validate) {
        my $said = output("<", "/dev/null", @validate);
        failed("the new content was refused by $validate[0] (exit code " . ($? >> 8) . "), the old one is untouched: $said") if $?;
    }
    # Carp costs more than all the rest of IO, which only needs it for what goes wrong in an import.
    if (eval { local $INC{"Carp.pm"} = "none"; require IO }) { IO::Handle::sync($f) or failed("$!") } else { words("sync", $t) }
    close $f or failed("$!");
    same($n, $was, $mark) or differs();
    if (!rename $t, $n) { -d $n ? fail("conflict", "a directory is there now") : failed("$!") }
    undef $temp;
    return verdict(1);
}
sub change_attributes {
    my ($parent, $name, $jail, $was, $mark, $mode, $user, $group) = @_;
    enter_parent(begin(@_));
    same("./$name", $was, $mark) or differs();
    return verdict(dress("./$name", $mode, $user, $group, stat "./$name"));
}
sub change_directory {
    my ($parent, $name, $jail, $was, $mark, $mode, $user, $group) = @_;
    my ($r, $rest) = begin(@_);
    enter($r);
    my $n = ".$rest/$name";
    same($n, $was, $mark) or differs();
    return verdict(dress($n, $mode, $user, $group, stat $n)) if $was ne "-";
    umask 022;
    my $d = ".";
    for my $part (split m{/}, $rest) {
        next if $part eq "";
        $d .= "/$part";
        mkdir $d, 0777 or -d $d or failed("$!");
    }
    my $plain = $mode eq "" && "$user$group" eq "";
    mkdir $n, $plain ? 0777 : 0700 or failed("$!");
    $mode = "755" if $mode eq "" && !$plain;
    dress($n, $mode, $user, $group, stat $n);
    return verdict(1);
}

# Leases: see lease.rs for what they mean; its shell text does the same.
sub words_of {
    my ($path, $n) = @_;
    open my $f, "<", $path or return ("") x $n;
    my $line = readline $f;
    return ("") x $n if !defined $line || $line !~ s/\n\z//;
    my @w = split / /, $line, $n;
    return map { $_ // "" } @w[0 .. $n - 1];
}
sub note {
    my ($path, $line, $new) = @_;
    my $f;
    ($new ? sysopen $f, $path, brand_new(), 0666 : open $f, ">", $path) or return;
    return put($f, "$line\n") && close $f;
}
# Makes its argument the next lock; gives the present one.
sub guard {
    my ($g, $line) = @_;
    my ($n, $k, $next) = (0, 0, "$g/lock.new");
    until (note($next, $line, 1)) {
        fail("$g was removed meanwhile") if !-d $g;
        if (++$n >= 50) {
            $n = 0;
            fail("$next cannot be written (disk full, or read-only?)") if ++$k >= 3;
            unlink $next;
        }
        select undef, undef, undef, 0.1;
    }
    $temp = $next;
    my ($r, $s, $t, $o) = words_of("$g/lock", 4);
    # What cannot be read holds nothing.
    ($r, $s) = ("", 0) if $s !~ /\A[0-9]+\z/;
    ($r, $t) = ("", 0) if $t !~ /\A[0-9]+\z/;
    return ($r, $s, $t, $o);
}
sub session {
    my ($x, $y) = words_of(shift() . "/session", 2);
    ($x, $y) = ("", "") if "$x$y" !~ /\A[0-9]*\z/;
    return ($x eq "" ? 0 : $x, $y);
}
sub folders {
    my ($d, $sofar) = (shift, "");
    for my $part (split m{/}, substr $d, 1) {
        $sofar .= "/$part";
        mkdir $sofar, 0777 or -d $sofar or return;
    }
    return 1;
}
sub acquire {
    my ($run, $session, $owner, $seconds, @over) = @_;
    my ($state, $user) = map { $_ // "" } @ENV{qw(XDG_STATE_HOME HOME)};
    my $g =
          $state =~ m{\A/}   ? "$state/runbook-target"
        : -w "/var/lib"      ? "/var/lib/runbook"
        : $user ne ""        ? "$user/.local/state/runbook-target"
        :                      fail("it has no home directory, and no right to write to /var/lib");
    umask 077;
    my $d = "$g/runs/$run";
    my ($fresh, $m, $p) = (!-d $d, 0, $g);
    while ($p =~ s{/[^/]*\z}{} && $p ne "" && !-d $p) { $m++ }
    # Somebody who gives the machine back may remove a folder in between.
    folders($d) or folders($d) or fail("$d: $!");
    $m == 0 or note("$g/made", $m);
    my $now = time;
    my ($r, $s, $t, $o) = guard($g, "$run $session " . ($now + $seconds) . " $owner");
    my $over = "";
    if ($r ne "" && $r ne $run && $t > $now) {
        if ("$r $s $t" ne "@over") {
            rmdir $d if $fresh;
            unlink $temp;
            undef $temp;
            return join "", map { "$_\0" } "H", "$g/lock", $r, $t - $now, $o, $s, $t;
        }
        $over = "$g/runs/$r";
    }
    my ($x, $y) = session($d);
    if ($x > $session || $r eq $run && $s > $session) {
        unlink $temp;
        undef $temp;
        return "N\0";
    }
    $y = $session if $x == 0 || $y eq "";
    note("$d/session", "$session $y") or fail("$!");
    rename $temp, "$g/lock" or fail("$!");
    undef $temp;
    # Nobody asks for its notes any more; and what of it comes late finds no place to note itself, and refuses.
    clear($over) if $over ne "" && (session($over))[0] <= $s;
    return "K\0$g\0$y\0";
}
sub clear {
    my $d = shift;
    opendir my $all, $d or return;
    unlink map { "$d/$_" } grep { !/\A\.\.?\z/ } readdir $all;
    rmdir $d;
}
sub release {
    my ($g, $run, $session, $keep) = @_;
    return "K\0" if !-d $g;
    my ($r, $s) = guard($g, "$run $session 0 leaving");
    unlink "$g/lock" if $r eq $run && $s == $session;
    my ($d, $m) = ("$g/runs/$run", words_of("$g/made", 1));
    clear($d) if $keep ne "keep" && (session($d))[0] == $session;
    $m = "" if $m !~ /\A[0-9]*\z/;
    # The last one to leave takes the folders along that were made for it.
    rmdir "$g/runs";
    unlink "$g/made" if $m ne "" && !-d "$g/runs";
    unlink $temp;
    undef $temp;
    $m = 0 if $m eq "";
    while (rmdir $g && $m > 0) { $m--; $g =~ s{/[^/]*\z}{} }
    return "K\0";
}

sub operate {
    my ($nonce, $name, @a) = @_;
    my $start = "$nonce S 0\n";
    my $started = sub { put(*STDOUT, $start); $start = "" };
    my $said = eval {
          $name eq "who" ? "$$ " . boot(@a) . " perl\n"
        : $name eq "ask" ? ask(@a)
        : $name eq "look" ? look(@a)
        : $name eq "write" ? change_file($a[10] ne "text", $started, @a)
        : $name eq "set" ? change_attributes(@a)
        : $name eq "directory" ? change_directory(@a)
        : $name eq "acquire" ? acquire(@a)
        : $name eq "release" ? release(@a)
        :                    die "no operation $name\n";
    };
    my $status = 0;
    if ($@) {
        ($said, $status) = ref $@ ? (join("", map { "$_\0" } "X", @{$@}), 0) : ($@, 1);
        if (defined $temp) { unlink $temp; undef $temp }
    }
    # It all goes to one stream: each write is a packet on its way, and another wake-up.
    put(*STDOUT, "$start$said$nonce E $status\n") or exit 1;
    defined $home && chdir $home or chdir "/";
    umask $umask;
}

binmode DATA;
while (my ($letter, $length) = block()) {
    my $b = bytes($length);
    if ($letter eq "F") { operate(unpack "(N/a*)*", $b) }
    elsif ($letter eq "B") {
        my ($nonce, @groups) = split / /, $b;
        next if !grep { kill 0, -$_ } @groups;
        put(*STDOUT, "$nonce B \n") && put(*STDERR, "$nonce B \n");
        exit;
    }
    elsif ($letter eq "S") {
        if (!$sh) {
            local $SIG{PIPE} = "DEFAULT";
            $sh = open $to_sh, "|-", "sh" or exit 1;
        }
        put($to_sh, $b) or exit 1;
    }
}
# The end of what is said to us is the end of what is said to the shell.
if ($sh) {
    my $pid = $sh;
    undef $sh;
    close $to_sh;
    exit($? >> 8);
}
__END__
