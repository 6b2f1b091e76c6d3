//! Statements and expressions of nftables that several rules use.

use std::collections::HashSet;

use ipnet::IpNet;
use nftables::{
    expr::{
        Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix,
        SetItem,
    },
    stmt::{Match, Operator, Statement},
};

pub(super) fn compare(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

/// A header's field, as `ip` and `daddr`.
pub(super) fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

pub(super) fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

pub(super) fn text(text: impl Into<String>) -> Expression<'static> {
    Expression::String(text.into().into())
}

pub(super) fn prefix(cidr: IpNet) -> Expression<'static> {
    let addr = Box::new(text(cidr.network().to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: cidr.prefix_len().into() }))
}

/// An anonymous set.
pub(super) fn set(elements: impl IntoIterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(elements.into_iter().map(SetItem::Element).collect()))
}

/// Matches what is for an address of this node.
pub(super) fn is_for_this_node() -> Statement<'static> {
    let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
    compare(Expression::Named(NamedExpression::Fib(fib)), Operator::EQ, text("local"))
}
