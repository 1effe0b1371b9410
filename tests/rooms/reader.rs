//! Finds the paths in a file that start with `crate`, `self` or `super`: in `use`, in code, in the bodies of macros and
//! in attributes. Code that is compiled for tests alone is left out.

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Expr, ExprAssign, ExprBlock, ExprCall, ExprIf, ExprLit, ExprMacro,
    ExprMethodCall, Field, FieldPat, FieldValue, File, ImplItemConst, ImplItemFn, ImplItemMacro,
    ImplItemType, ItemConst, ItemEnum, ItemExternCrate, ItemFn, ItemImpl, ItemMacro, ItemMod,
    ItemStatic, ItemStruct, ItemTrait, ItemType, ItemUse, Lit, LitStr, Local, Macro, Meta,
    MetaList, MetaNameValue, StmtMacro, Token, TraitItemConst, TraitItemFn, TraitItemMacro,
    TraitItemType, UseTree, Variant, Visibility,
};

use crate::imports::{Import, Path, module_of};

/// Reads one file after another.
#[derive(Default)]
pub struct Reader {
    file: String,
    /// The module that is being read.
    module: Path,
    pub imports: Vec<Import>,
    /// Modules in files of their own that are compiled for tests alone.
    pub tests: Vec<Path>,
    pub redirections: Vec<String>,
}

impl Reader {
    pub fn read(&mut self, file: &str, text: &str) {
        file.clone_into(&mut self.file);
        self.module = module_of(file);
        match syn::parse_file(text) {
            Ok(parsed) => self.visit_file(&parsed),
            Err(error) => panic!("{file}:{}: {error}", error.span().start().line),
        }
    }

    /// Keeps a path if it is one of this crate.
    fn add(&mut self, path: &[String], line: usize) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let mut to = match first.as_str() {
            "crate" => Path::new(),
            "self" => self.module.clone(),
            "super" => self.parent(),
            _ => return,
        };
        for name in rest {
            match name.as_str() {
                // `use crate::docker::{self}` means `crate::docker`.
                "self" => {}
                "super" => drop(to.pop()),
                name => to.push(name.to_owned()),
            }
        }
        self.imports.push(Import {
            file: self.file.clone(),
            line,
            from: self.module.clone(),
            to,
        });
    }

    fn parent(&self) -> Path {
        let mut parent = self.module.clone();
        parent.pop();
        parent
    }

    fn add_path(&mut self, path: &syn::Path, span: Span) {
        let names = path.segments.iter().map(|it| it.ident.unraw().to_string());
        let names = names.collect::<Path>();
        // `self` alone is a receiver.
        if path.leading_colon.is_none() && names.len() > 1 {
            self.add(&names, line_of(span));
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let (name, line) = match tree {
            UseTree::Path(path) => {
                let before = joined(before, path.ident.unraw().to_string());
                return self.add_tree(&path.tree, &before);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|it| self.add_tree(it, before));
            }
            UseTree::Name(name) => (name.ident.unraw().to_string(), line_of(name.ident.span())),
            UseTree::Rename(name) => (name.ident.unraw().to_string(), line_of(name.ident.span())),
            UseTree::Glob(glob) => ("*".to_owned(), line_of(glob.star_token.span)),
        };
        self.add(&joined(before, name), line);
    }

    /// Finds paths where nothing is known of the grammar. Strings are paths in attributes only.
    fn add_tokens(&mut self, tokens: TokenStream, with_strings: bool) {
        let tokens = tokens.into_iter().collect::<Vec<_>>();
        let mut rest = tokens.as_slice();
        while let [first, after @ ..] = rest {
            rest = match (first, after) {
                // `pub(in super::keeper)` imports nothing.
                (TokenTree::Ident(word), [TokenTree::Group(group), after @ ..])
                    if word == "pub" && group.delimiter() == Delimiter::Parenthesis =>
                {
                    after
                }
                (TokenTree::Ident(word), _)
                    if ["crate", "self", "super"].iter().any(|it| word == it)
                        && after_colons(after).is_some() =>
                {
                    self.add_token_path(&[], rest)
                }
                (TokenTree::Group(group), _) => {
                    self.add_tokens(group.stream(), with_strings);
                    after
                }
                (TokenTree::Literal(literal), _) if with_strings => {
                    if let Lit::Str(text) = Lit::new(literal.clone()) {
                        self.add_string(&text);
                    }
                    after
                }
                _ => after,
            };
        }
    }

    /// Adds the path that `tokens` begin with, or as many as it has in braces. Returns the tokens after it.
    fn add_token_path<'a>(
        &mut self,
        before: &[String],
        tokens: &'a [TokenTree],
    ) -> &'a [TokenTree] {
        let Some((first, rest)) = tokens.split_first() else {
            return tokens;
        };
        let line = line_of(first.span());
        match first {
            TokenTree::Ident(name) => {
                let path = joined(before, name.unraw().to_string());
                if let Some(after) = after_colons(rest) {
                    return self.add_token_path(&path, after);
                }
                self.add(&path, line);
                rest
            }
            TokenTree::Punct(star) if star.as_char() == '*' => {
                self.add(&joined(before, "*".to_owned()), line);
                rest
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let tokens = group.stream().into_iter().collect::<Vec<_>>();
                for part in tokens.split(is_comma).filter(|part| !part.is_empty()) {
                    self.add_token_path(before, part);
                }
                rest
            }
            // Type arguments: `crate::Map::<crate::Key>`.
            _ => {
                self.add(before, line);
                tokens
            }
        }
    }

    /// `#[serde(with = "crate::base::text")]`
    fn add_string(&mut self, text: &LitStr) {
        if let Ok(path) = text.parse::<syn::Path>() {
            self.add_path(&path, text.span());
        }
    }
}

fn joined(before: &[String], name: String) -> Path {
    let mut path = before.to_vec();
    path.push(name);
    path
}

fn line_of(span: Span) -> usize {
    span.start().line
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [
            TokenTree::Punct(first),
            TokenTree::Punct(second),
            after @ ..,
        ] => {
            (first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':')
                .then_some(after)
        }
        _ => None,
    }
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',')
}

/// Whether what has these attributes is compiled for tests alone.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("cfg") {
            let condition = attribute.parse_args::<Meta>();
            return condition.is_ok_and(|condition| needs_test(&condition));
        }
        let name = attribute.path().segments.last();
        name.is_some_and(|name| name.ident == "test")
    })
}

fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let parts = parts.unwrap_or_default();
    if list.path.is_ident("all") {
        parts.iter().any(needs_test)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(needs_test)
    }
}

/// Passes over what is compiled for tests alone.
macro_rules! without_tests {
    ($($visit:ident: $node:ty,)*) => {
        $(fn $visit(&mut self, node: &'ast $node) {
            if !is_for_tests(&node.attrs) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader {
    without_tests! {
        visit_arm: Arm,
        visit_expr_assign: ExprAssign,
        visit_expr_block: ExprBlock,
        visit_expr_call: ExprCall,
        visit_expr_if: ExprIf,
        visit_expr_macro: ExprMacro,
        visit_expr_method_call: ExprMethodCall,
        visit_field: Field,
        visit_field_pat: FieldPat,
        visit_field_value: FieldValue,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_impl_item_macro: ImplItemMacro,
        visit_impl_item_type: ImplItemType,
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_item_macro: ItemMacro,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_trait_item_const: TraitItemConst,
        visit_trait_item_fn: TraitItemFn,
        visit_trait_item_macro: TraitItemMacro,
        visit_trait_item_type: TraitItemType,
        visit_variant: Variant,
    }

    fn visit_file(&mut self, file: &'ast File) {
        if is_for_tests(&file.attrs) {
            self.tests.push(self.module.clone());
        }
        visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.attrs.iter().any(|it| it.path().is_ident("path")) {
            let line = line_of(item.ident.span());
            self.redirections.push(format!("{}:{line}", self.file));
        }
        self.module.push(item.ident.unraw().to_string());
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        } else if item.content.is_none() {
            self.tests.push(self.module.clone());
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) && item.leading_colon.is_none() {
            self.add_tree(&item.tree, &[]);
        }
    }

    /// `extern crate self as name` gives the root another name.
    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        if !is_for_tests(&item.attrs) && item.ident == "self" {
            self.add(&["crate".to_owned()], line_of(item.ident.span()));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            self.add_path(path, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone(), false);
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        self.visit_path(&list.path);
        self.add_tokens(list.tokens.clone(), true);
    }

    fn visit_meta_name_value(&mut self, pair: &'ast MetaNameValue) {
        match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) if !pair.path.is_ident("doc") => self.add_string(text),
            value => self.visit_expr(value),
        }
    }

    /// `pub(in crate::docker)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
