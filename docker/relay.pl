# What a build reaches a proxy through: listens on loopback, from port FIRST on, and passes each connection on to the
# gateway's socket of that number in FOLDER. In Perl, since every Debian has that before anything is installed.
# Arguments: FOLDER, FIRST, how many.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

my ($folder, $first, $count) = @ARGV;
$SIG{CHLD} = $SIG{PIPE} = 'IGNORE';
$| = 1;

my (%socket_of, $listening);
$listening = IO::Select->new;
for my $number (0 .. $count - 1) {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $first + $number, Listen => 128)
        or die "port " . ($first + $number) . ": $@\n";
    $socket_of{fileno $listener} = "$folder/$number";
    $listening->add($listener);
}
print "listening\n";

while (1) {
    for my $listener ($listening->can_read) {
        my $client = $listener->accept or next;
        my $child = fork;
        pass($client, $socket_of{fileno $listener}) if defined $child && !$child;
    }
}

# Pass one connection on, a process for each direction, so that neither waits for the other.
sub pass {
    my ($client, $path) = @_;
    my $gateway = IO::Socket::UNIX->new(Peer => $path) or exit 1;
    my $child = fork;
    exit 1 unless defined $child;
    my ($from, $to) = $child ? ($client, $gateway) : ($gateway, $client);
    while (sysread $from, my $data, 65536) {
        while (length $data) {
            my $written = syswrite $to, $data;
            defined $written or exit 1;
            substr $data, 0, $written, '';
        }
    }
    $to->shutdown(1);
    exit 0;
}
