"""Retransmission of lost packets, as TCP does it: by duplicate acknowledgements, or by a timer that doubles. Pure."""

from collections.abc import Iterator
from math import ceil, log

PACKET_BYTES = 1448  # TCP payload of one Ethernet frame with timestamps (RFC 7323)
MIN_RTO_S = 0.2  # Linux TCP_RTO_MIN: what a loss costs when too few packets follow to notice it (RFC 5681, 3.2)
MAX_RTO_S = 120.0  # Linux TCP_RTO_MAX: timeouts double up to it (RFC 6298, 5.5)
DUPLICATE_ACKS = 3  # packets that must arrive for a loss among them to be noticed without a timeout
_DOUBLINGS = 10  # enough for MAX_RTO_S


def lost_packets(packets: int, loss: float, uniform: float) -> int:
    """Number of lost packets among `packets`: the binomial distribution's quantile at `uniform`.

    With hundreds of expected losses their number is practically certain, and the mean is returned.
    """
    if loss > 0.5:  # count those that get through: the sum below needs a chance that none is lost
        return packets - lost_packets(packets, 1.0 - loss, 1.0 - uniform)
    if packets * loss > 200.0:
        return round(packets * loss)
    probability = (1.0 - loss) ** packets
    cumulative, lost = probability, 0
    while uniform >= cumulative and lost < packets:
        probability *= (packets - lost) / (lost + 1) * loss / (1.0 - loss)
        lost += 1
        cumulative += probability
    return lost


def retransmission_s(packets: int, loss: float, round_trip_s: float, packet_s: float, draws: Iterator[float]) -> float:
    """Time that lost packets of a message cost: they are sent again, in rounds, until every one has arrived.

    Each round each packet is lost with chance `loss`, so that a packet's tries are geometric. After a round of which
    three packets arrive the others follow within a round trip (fast retransmit, RFC 5681, 3.2). Otherwise they wait for
    a timeout, which doubles up to `MAX_RTO_S` with each round in a row that brings nothing (RFC 6298, 5.5). Unlike
    Linux, which gives up a connection after 15 of them (tcp(7), tcp_retries2), it goes on for ever.
    """
    timeout_s = max(MIN_RTO_S, round_trip_s)
    outstanding, backoff, total_s = packets, 0, 0.0
    lost = lost_packets(outstanding, loss, next(draws))
    while lost:
        if lost == outstanding:
            rounds = 1 + _more_rounds(loss, outstanding, next(draws))
            total_s += _timeouts_s(timeout_s, backoff, rounds) + rounds * lost * packet_s
            backoff += rounds
            some_arrive = 1.0 - loss**outstanding  # the next draw is among the rounds in which not all are lost
            lost = min(lost_packets(outstanding, loss, next(draws) * some_arrive), outstanding - 1)
            continue
        fast = outstanding - lost >= DUPLICATE_ACKS
        total_s += (round_trip_s if fast else timeout_s) + lost * packet_s
        outstanding, backoff = lost, 0 if fast else 1
        lost = lost_packets(outstanding, loss, next(draws))
    return total_s


def _more_rounds(loss: float, packets: int, uniform: float) -> int:
    """Number of further rounds in a row in which all packets are lost: geometric, at the quantile `uniform`."""
    return int(log(1.0 - uniform) / (packets * log(loss)))


def _timeouts_s(timeout_s: float, backoff: int, rounds: int) -> float:
    """Sum of `rounds` timeouts in a row, of which the first is doubled `backoff` times."""
    total_s = 0.0
    for n in range(rounds):
        each_s = timeout_s * 2.0 ** min(backoff + n, _DOUBLINGS)
        if each_s >= MAX_RTO_S:
            return total_s + (rounds - n) * max(MAX_RTO_S, timeout_s)
        total_s += each_s
    return total_s


def resent_s(lost_for_s: float, round_trip_s: float) -> float:
    """Time for which a message waits after all of it was lost for so long: until its timer ends once more."""
    timeout_s = max(MIN_RTO_S, round_trip_s)
    longest_s, passed_s = max(MAX_RTO_S, timeout_s), timeout_s
    while passed_s < lost_for_s and timeout_s < longest_s:
        timeout_s = min(2.0 * timeout_s, longest_s)
        passed_s += timeout_s
    passed_s += longest_s * max(0, ceil((lost_for_s - passed_s) / longest_s))
    return passed_s - lost_for_s
